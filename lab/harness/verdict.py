"""From observations to a verdict: what holds, what fails, and what these figures cannot tell."""

from __future__ import annotations

import contextlib
from collections import UserDict
from typing import TYPE_CHECKING, NamedTuple

from lab.harness.checks import shown
from lab.harness.experiment import Check
from lab.harness.observation import FAILED, GENERATOR_CPU, LITTLES_LAW, OTHERS, taken_by_others

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from lab.harness.experiment import ArmResult, Experiment, Results
    from lab.harness.observation import Observation
    from lab.measure.environment import Environment
    from lab.measure.summary import Summary

HOLDS, FAILS, INCONCLUSIVE = "holds", "fails", "inconclusive"
BUSIEST_GENERATOR = 0.8
"""Share of a core. Above it, the generator's own queue may be what was measured."""
LITTLES_LAW_TOLERANCE = 0.1
BUSY_MACHINE = 0.15
"""Share of the processors that others may take. Above it, a duration or a rate may be theirs, and what should have
happened may only have come too late.
"""
HINDERED = "others had"
"""Beginning of the reason where that is one."""
ADVICE = (
    "others had the processors: end what else runs on this machine (`top` shows it), or run it again when it is quieter"
)


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
    advice: str = ""
    """Next step, where one is known."""


def judge(experiment: Experiment, results: Results, environment: Environment) -> Verdict:
    """All checks, and what they come to together.

    Figures that may be the generator's own, or a machine with too few cores, decide nothing: neither for the claims
    that rest on them nor against. Nor do the figures of timed checks where others had the processors for much of the
    time; counts are judged by every trial all the same. Otherwise one check that fails is enough, and one that cannot
    tell leaves the whole open. Raises LookupError where a check asks for what was not measured.
    """
    too_few_cores = list(_too_few_cores(experiment, environment))
    timed = results, _spoilt(results, timed=True)
    everything = {name: result.every_trial() for name, result in results.items()}
    counted = everything, _spoilt(everything, timed=False)
    outcomes = [_outcome(check, *(timed if check.timed else counted), environment) for check in experiment.checks]
    if too_few_cores:
        return Verdict(INCONCLUSIVE, [outcome._replace(holds=None) for outcome in outcomes], too_few_cores)
    unknown = [f"{outcome.check.name}: {outcome.measured}" for outcome in outcomes if outcome.holds is None]
    advice = ADVICE if any(HINDERED in reason for reason in unknown) else ""
    if any(outcome.holds is False for outcome in outcomes):
        return Verdict(FAILS, outcomes, [], advice)
    return Verdict(INCONCLUSIVE if unknown else HOLDS, outcomes, unknown, advice)


def arms_of(checks: Iterable[Check], results: Results) -> set[str]:
    """The arms on which these checks rest, as far as the results at hand show."""
    seen = _Seen(results)
    for check in checks:
        # What a judge cannot make of the figures at hand is no matter here: it has asked for them.
        with contextlib.suppress(ArithmeticError, LookupError):
            check.judge(seen)
    return seen.arms


def is_hindered(observation: Observation) -> bool:
    """Return whether others had so much of the processors that durations and rates of this trial may be theirs."""
    return taken_by_others(observation) > BUSY_MACHINE


def _outcome(check: Check, results: Results, against: Mapping[str, str], environment: Environment) -> Outcome:
    seen = _Seen(results)
    try:
        measured, holds = check.judge(seen)
    except ArithmeticError as error:  # a median of 0: the others still count. A metric that no trial has is a slip.
        measured, holds = f"cannot be judged: {error!r}", None
    if environment["cpus"] < check.cores:
        return Outcome(check, f"needs {check.cores} cores, and there are {environment['cpus']}; {measured}", None)
    reasons = [f"{arm}: {against[arm]}" for arm in results if arm in seen.arms and arm in against]
    if reasons:
        return Outcome(check, "; ".join([*reasons, measured]), None)
    return Outcome(check, measured, holds)


class _Seen(UserDict[str, "ArmResult"]):
    """Results that remember which arms a judge has looked at: on these its finding rests."""

    def __init__(self, results: Results) -> None:
        super().__init__(results)
        self.arms: set[str] = set()

    def __getitem__(self, arm: str) -> ArmResult:
        self.arms.add(arm)
        return super().__getitem__(arm)


def _too_few_cores(experiment: Experiment, environment: Environment) -> Iterator[str]:
    if environment["cpus"] < experiment.cores:
        yield f"needs {experiment.cores} cores, and there are {environment['cpus']}"


def _spoilt(results: Results, *, timed: bool) -> dict[str, str]:
    """By arm, why its figures decide nothing: the `timed` ones, or counts.

    One trial with failed requests spoils its arm: what it measured is among the figures. Of the processors' and the
    generator's share and of L / (λ W) the medians count, since what rates and times are judged by are medians, too. One
    trial with a busy generator moves none of these. Requests under way as the counting begins and ends push a single
    trial's L / (λ W) to either side of 1, but a load that is not steady pushes all of them the same way.
    """
    reasons = {}
    for name, result in results.items():
        summaries = result.summaries()
        reason = _failed(summaries) or (timed and (_hindered(summaries) or _saturated(summaries)))
        if reason:
            reasons[name] = reason
    return reasons


def _failed(summaries: Mapping[str, Summary]) -> str:
    failed = summaries.get(FAILED)
    return f"up to {failed['max']:,.0f} requests failed" if failed and failed["max"] > 0 else ""


def _hindered(summaries: Mapping[str, Summary]) -> str:
    taken = summaries.get(OTHERS)
    if taken and taken["median"] > BUSY_MACHINE:
        return f"{HINDERED} {taken['median']:.0%} of the processors"
    return ""


def _saturated(summaries: Mapping[str, Summary]) -> str:
    busy, law = (summaries.get(metric) for metric in (GENERATOR_CPU, LITTLES_LAW))
    if busy and busy["median"] > BUSIEST_GENERATOR:
        return f"the generator used {shown(busy)} of its core, above {BUSIEST_GENERATOR:g}"
    if law and abs(law["median"] - 1) > LITTLES_LAW_TOLERANCE:
        return f"L / (λ W) is {shown(law)} where Little's law wants 1: the load was not steady"
    return ""
