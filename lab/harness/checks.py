"""Ways to judge a claim that many experiments share. Each makes the `judge` of a `Check`.

A bound is held against the median of the trials. A comparison of two arms wants more. Spreads that overlap are called
*no difference*, and then neither arm is shown to be greater; and figures that scatter more than a claim of sameness,
or of being no greater, allows show nothing of the kind. Both leave the claim open.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lab.harness.experiment import Finding
from lab.measure.summary import Summary, overlap

SPREADS_APART = ", spreads apart"
"""End of the expectation of a difference, which wants more than a ratio where there is more than one trial."""

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.harness.experiment import Results

    Judge = Callable[[Results], Finding]


def between(arm: str, metric: str, least: float = -math.inf, most: float = math.inf) -> Judge:
    """The metric's median lies within the bounds, both included."""

    def judge(results: Results) -> Finding:
        summary = results[arm].summary(metric)
        return Finding(f"{metric} {shown(summary)}", least <= summary["median"] <= most)

    return judge


def always(arm: str, metric: str, least: float = -math.inf, most: float = math.inf) -> Judge:
    """Every single trial's figure lies within the bounds: for counts, where one exception is one too many."""

    def judge(results: Results) -> Finding:
        summary = results[arm].summary(metric)
        return Finding(f"{metric} {shown(summary)}", least <= summary["min"] and summary["max"] <= most)

    return judge


def every_trial(arm: str, *metrics: str, holds: Callable[..., bool]) -> Judge:
    """`holds` is true of these metrics of every single trial, which it gets in this order."""

    def judge(results: Results) -> Finding:
        result = results[arm]
        text = ", ".join(f"{metric} {shown(result.summary(metric))}" for metric in metrics)
        trials = [[trial.metrics[metric].value for metric in metrics] for trial in result.observations]
        return Finding(text, all(holds(*trial) for trial in trials))

    return judge


def ratio(
    metric: str, arm: str, to: str, least: float = -math.inf, most: float = math.inf, one_trial: float = 0.0
) -> Judge:
    """The median of `arm` is at least, or at most, so many times that of `to`.

    A ratio that must be above 1, or below, needs spreads that do not overlap, too; one that must be near 1, spreads
    that are no wider than what is called near, or so far within the bounds that any two trials are. Of one trial each
    nobody knows the spread: a ratio that is beyond the bounds by no more than `one_trial` leaves the claim open.
    """

    def judge(results: Results) -> Finding:
        one, other = results[arm].summary(metric), results[to].summary(metric)
        times = one["median"] / other["median"] if other["median"] else math.inf
        text = f"{metric}: {arm} {shown(one)}, {to} {shown(other)}: ratio {times:.3g}"
        if not least <= times <= most:
            if one["n"] == other["n"] == 1 and least - one_trial <= times <= most + one_trial:
                return Finding(f"{text}, which one trial of each does not tell from {_same(least, most)}", None)
            return Finding(text, False)
        if (least > 1 or most < 1) and overlap(one, other):
            return Finding(f"{text}, no difference: the spreads overlap", None)
        scatter = max(relative_spread(one), relative_spread(other))
        if scatter > _slack(least, most) and not _all_within(one, other, least, most):
            return Finding(f"{text}, which scatters too much to be called {_same(least, most)}", None)
        return Finding(text, True)

    return judge


def _slack(least: float, most: float) -> float:
    """Return the distance that ratios may have which are called near; infinite where a difference is claimed."""
    slack = (most if most < math.inf else 1.0) - (least if least > 0 else 1.0)
    return slack if slack >= 0 else math.inf


def _same(least: float, most: float) -> str:
    if least > 0:
        return "the same" if most < math.inf else "no smaller"
    return "no greater"


def _all_within(one: Summary, other: Summary, least: float, most: float) -> bool:
    """Return whether the bounds hold for any trial of the one beside any of the other."""
    return max(least, 0.0) * other["max"] <= one["min"] and one["max"] <= most * other["min"]


def relative_spread(summary: Summary) -> float:
    """From the smallest to the largest, in medians."""
    return (summary["max"] - summary["min"]) / summary["median"] if summary["median"] else 0.0


def shown(summary: Summary) -> str:
    """Median, and the spread where there is one: "4.2 ms (3.9 to 4.8)"."""
    unit = f" {summary['unit']}" if summary["unit"] else ""
    middle = f"{number(summary['median'])}{unit}"
    if summary["n"] == 1 or summary["min"] == summary["max"]:
        return middle
    return f"{middle} ({number(summary['min'])} to {number(summary['max'])})"


def number(value: float) -> str:
    """A figure for a person: whole counts in full, the rest with three digits."""
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 1000 else f"{value:.3g}"
