"""Results of an experiment, made up: what do its judges say of them?"""

from lab.harness.experiment import ArmResult
from lab.harness.observation import Arm, Observation, Quantity


def arms(**trials):
    """Results by arm: of each a list of trials, and each trial a mapping of metrics to values."""
    return {name: ArmResult(Arm(name), [_observed(trial) for trial in given]) for name, given in trials.items()}


def trials(arm, *figures):
    """Results of one arm."""
    return arms(**{arm: figures})


def shares(arm, name, *counts):
    """Results of one arm, a trial for each mapping of whom to how many."""
    return {arm: ArmResult(Arm(arm), [Observation(shares={name: count}) for count in counts])}


def _observed(figures):
    return Observation({name: Quantity(value) for name, value in figures.items()})
