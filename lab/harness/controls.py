"""The experiment that a control makes: its cause is taken away, and in quick form all that has no part in it.

A control is there for the checks that it names. In quick form only these are judged, and only the arms made on which
they rest, and those that the control replaces. Which they rest on is found out by judging results that are made up.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lab.harness.experiment import ArmResult
from lab.harness.observation import Observation, Quantity
from lab.harness.verdict import arms_of

if TYPE_CHECKING:
    from lab.harness.experiment import Check, Control, Experiment, Results

MADE_UP = (0.0, 1.0, 1000.0)
"""Figures that take a judge down several ways."""


def as_run(experiment: Experiment, control: Control | None, *, quick: bool) -> Experiment:
    """The experiment itself, or what a control makes of it."""
    if control is None:
        return experiment
    changed = experiment.without_cause(control)
    if not quick:
        return changed
    named = tuple(check for check in changed.checks if check.name in control.fails)
    wanted = {arm.name for arm in control.arms} | _arms_that_decide(named, changed)
    arms = tuple(arm for arm in changed.arms if arm.name in wanted)
    return replace(changed, checks=named, arms=arms, controls=(control,))


def _arms_that_decide(checks: tuple[Check, ...], experiment: Experiment) -> set[str]:
    return set().union(*(arms_of(checks, _made_up(experiment, figure)) for figure in MADE_UP))


def _made_up(experiment: Experiment, figure: float) -> Results:
    return {arm.name: ArmResult(arm, [Observation(_EveryMetric(figure))]) for arm in experiment.arms}


class _EveryMetric(dict[str, Quantity]):
    """One figure, whatever metric is asked for."""

    def __init__(self, figure: float) -> None:
        super().__init__()
        self._figure = figure

    def __contains__(self, metric: object) -> bool:
        return True

    def __missing__(self, metric: str) -> Quantity:
        return Quantity(self._figure)
