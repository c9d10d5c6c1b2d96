"""Ways to judge a claim that many experiments share. Each makes the `judge` of a `Check`.

A bound is held against the median of the trials. A comparison of two arms wants more: spreads that overlap are
called *no difference*, and then neither arm is greater than the other.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lab.measure.experiment import Finding
from lab.measure.summary import Summary, overlap

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.measure.experiment import Results

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


def ratio(metric: str, arm: str, to: str, least: float = -math.inf, most: float = math.inf) -> Judge:
    """The median of `arm` is at least, or at most, so many times that of `to`.

    A ratio that must be above 1 needs spreads that do not overlap, too.
    """

    def judge(results: Results) -> Finding:
        one, other = results[arm].summary(metric), results[to].summary(metric)
        times = one["median"] / other["median"] if other["median"] else math.inf
        differ = not overlap(one, other)
        needs_difference = least > 1 or most < 1
        words = "" if differ or not needs_difference else ", no difference: the spreads overlap"
        text = f"{metric}: {arm} {shown(one)}, {to} {shown(other)}: ratio {times:.3g}{words}"
        return Finding(text, least <= times <= most and (differ or not needs_difference))

    return judge


def equal(arm: str, metric: str, to: str) -> Judge:
    """Two metrics of one arm are the same number in each trial."""

    def judge(results: Results) -> Finding:
        ones, others = results[arm].values(metric), results[arm].values(to)
        text = f"{metric} {shown(results[arm].summary(metric))}, {to} {shown(results[arm].summary(to))}"
        return Finding(text, ones == others)

    return judge


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
