"""Results of an experiment, made up: what do its judges say of them?"""

from lab.measure.experiment import Arm, ArmResult, Observation, Quantity


def trials(arm, *figures):
    """Results of one arm, a trial for each mapping of metrics to values."""
    metrics = [{name: Quantity(value) for name, value in figure.items()} for figure in figures]
    return {arm: ArmResult(Arm(arm), [Observation(metric) for metric in metrics])}


def shares(arm, name, *counts):
    """Results of one arm, a trial for each mapping of whom to how many."""
    return {arm: ArmResult(Arm(arm), [Observation(shares={name: count}) for count in counts])}
