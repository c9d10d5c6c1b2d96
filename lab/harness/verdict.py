"""From observations to a verdict: what holds, what fails, and what these figures cannot tell."""

from __future__ import annotations

from collections import UserDict
from typing import TYPE_CHECKING, NamedTuple

from lab.harness.checks import shown
from lab.harness.experiment import Check
from lab.harness.observation import FAILED, GENERATOR_CPU, LITTLES_LAW, OTHERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lab.harness.experiment import ArmResult, Experiment, Results
    from lab.measure.environment import Environment

HOLDS, FAILS, INCONCLUSIVE = "holds", "fails", "inconclusive"
BUSIEST_GENERATOR = 0.8
"""Share of a core. Above it, the generator's own queue may be what was measured."""
LITTLES_LAW_TOLERANCE = 0.1
BUSY_MACHINE = 0.15
"""Share of the processors that others may take. Above it, what should have happened may only have come too late."""


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

    Figures that may be the generator's own, or a machine with too few cores, decide nothing: neither for the claims
    that rest on them nor against. Where others had the processors for much of the time, nothing fails: arms that take
    turns suffer alike, but what has to happen in time may not. Otherwise one check that fails is enough, and one that
    cannot tell leaves the whole open. Raises LookupError where a check asks for what was not measured.
    """
    too_few_cores = list(_too_few_cores(experiment, environment))
    spoilt, hindered = _spoilt(results), _hindered(results)
    outcomes = [_outcome(check, results, spoilt, hindered, environment) for check in experiment.checks]
    if too_few_cores:
        return Verdict(INCONCLUSIVE, [outcome._replace(holds=None) for outcome in outcomes], too_few_cores)
    if any(outcome.holds is False for outcome in outcomes):
        return Verdict(FAILS, outcomes, [])
    unknown = [f"{outcome.check.name}: {outcome.measured}" for outcome in outcomes if outcome.holds is None]
    return Verdict(INCONCLUSIVE if unknown else HOLDS, outcomes, unknown)


def _outcome(
    check: Check, results: Results, spoilt: Mapping[str, str], hindered: Mapping[str, str], environment: Environment
) -> Outcome:
    seen = _Seen(results)
    try:
        measured, holds = check.judge(seen)
    except ArithmeticError as error:  # a median of 0: the others still count. A metric that no trial has is a slip.
        measured, holds = f"cannot be judged: {error!r}", None
    if environment["cpus"] < check.cores:
        return Outcome(check, f"needs {check.cores} cores, and there are {environment['cpus']}; {measured}", None)
    against = {**hindered, **spoilt} if holds is False else spoilt
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


def _spoilt(results: Results) -> dict[str, str]:
    """By arm, why its figures decide nothing.

    One trial with failed requests spoils its arm: what it measured is among the figures. Of the generator's share and
    of L / (λ W) the medians count, since what rates and times are judged by are medians, too. One trial with a busy
    generator moves none of these. Requests under way as the counting begins and ends push a single trial's L / (λ W)
    to either side of 1, but a load that is not steady pushes all of them the same way.
    """
    reasons = {}
    for name, result in results.items():
        summaries = result.summaries()
        failed, busy, law = (summaries.get(metric) for metric in (FAILED, GENERATOR_CPU, LITTLES_LAW))
        if failed and failed["max"] > 0:
            reasons[name] = f"up to {failed['max']:,.0f} requests failed"
        elif busy and busy["median"] > BUSIEST_GENERATOR:
            reasons[name] = f"the generator used {shown(busy)} of its core, above {BUSIEST_GENERATOR:g}"
        elif law and abs(law["median"] - 1) > LITTLES_LAW_TOLERANCE:
            reasons[name] = f"L / (λ W) is {shown(law)} where Little's law wants 1: the load was not steady"
    return reasons


def _hindered(results: Results) -> dict[str, str]:
    """By arm, how much of the processors its trials had to do without, where that is much."""
    taken = {
        name: summaries[OTHERS]["median"]
        for name, result in results.items()
        if OTHERS in (summaries := result.summaries())
    }
    return {name: f"others had {share:.0%} of the processors" for name, share in taken.items() if share > BUSY_MACHINE}
