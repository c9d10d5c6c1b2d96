"""From observations to a verdict: what holds, what fails, and what these figures cannot tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lab.measure.checks import shown
from lab.measure.experiment import GENERATOR_CPU, LITTLES_LAW, Check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.measure.environment import Environment
    from lab.measure.experiment import Experiment, Results

HOLDS, FAILS, INCONCLUSIVE = "holds", "fails", "inconclusive"
BUSIEST_GENERATOR = 0.8
"""Share of a core. Above it, the generator's own queue may be what was measured."""
LITTLES_LAW_TOLERANCE = 0.1


class Outcome(NamedTuple):
    """A check and what came of it."""

    check: Check
    measured: str
    holds: bool | None


class Verdict(NamedTuple):
    """`word` is "holds", "fails" or "inconclusive", and `reasons` say why the last."""

    word: str
    outcomes: list[Outcome]
    reasons: list[str]


def judge(experiment: Experiment, results: Results, environment: Environment) -> Verdict:
    """All checks, and what they come to together.

    Figures that may be the generator's own, or a machine with too few cores, decide nothing: neither for the claim
    nor against it. Otherwise one check that fails is enough, and one that cannot tell leaves the whole open.
    """
    outcomes = [_outcome(check, results, environment) for check in experiment.checks]
    reasons = [*_too_few_cores(experiment, environment), *_spoilt(results)]
    if reasons:
        return Verdict(INCONCLUSIVE, [outcome._replace(holds=None) for outcome in outcomes], reasons)
    if any(outcome.holds is False for outcome in outcomes):
        return Verdict(FAILS, outcomes, [])
    unknown = [f"{outcome.check.name}: {outcome.measured}" for outcome in outcomes if outcome.holds is None]
    return Verdict(INCONCLUSIVE if unknown else HOLDS, outcomes, unknown)


def _outcome(check: Check, results: Results, environment: Environment) -> Outcome:
    found = check.judge(results)
    if environment["cpus"] < check.cores:
        return Outcome(check, f"needs {check.cores} cores, and there are {environment['cpus']}; {found.measured}", None)
    return Outcome(check, *found)


def _too_few_cores(experiment: Experiment, environment: Environment) -> Iterator[str]:
    if environment["cpus"] < experiment.cores:
        yield f"needs {experiment.cores} cores, and there are {environment['cpus']}"


def _spoilt(results: Results) -> Iterator[str]:
    for name, result in results.items():
        summaries = result.summaries()
        busy = summaries.get(GENERATOR_CPU)
        if busy and busy["median"] > BUSIEST_GENERATOR:
            yield f"{name}: the generator used {shown(busy)} of its core, above {BUSIEST_GENERATOR:g}"
        law = summaries.get(LITTLES_LAW)
        if law and abs(law["median"] - 1) > LITTLES_LAW_TOLERANCE:
            yield f"{name}: L / (λ W) is {shown(law)} where Little's law wants 1: the load was not steady"
