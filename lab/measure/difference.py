"""Difference of two runs: how great it is, within which interval it lies, and whether it is one at all.

What is repeated is the *unit*. A request is no unit: requests of one second share its queues, its neighbours on the
machine and its clock, so that a thousand of them tell hardly more than one. Units are repeats of a load, trials of an
experiment, rounds of a benchmark; within one run, where there is nothing else, blocks of seconds.

Intervals are Welch's (unequal variances, Student's t), of logarithms where all figures are above 0: latencies and
rates vary by factors, and one slow unit among ten must not hide what the others show. All metrics of one comparison
share one error level: with m of them, each interval leaves out the true difference in 1/m of `LEVEL` (Bonferroni), so
that of a hundred comparisons of a thing with itself one, at most, shows any difference.

Blocks follow one another, and what slowed one down may slow the next. So the variance is multiplied by
(1 + r) / (1 - r), r being the correlation of neighbouring blocks over all metrics of both sides, and as many degrees of
freedom are given up. r is estimated from few blocks, which makes it too small (by about (1 + 3 r) / n: Kendall, 1954),
and is corrected for that. Alternatives were tried on made series of five metrics, with neighbouring seconds correlated
(tests/lab/measure/test_difference.py has those series). Differences that were none, of 1,000 comparisons:

    seconds, correlation          10, 0   20, 0.3   20, 0.6   30, 0.6   60, 0.8
    bootstrap of blocks             112       112       282       170       296
    permutation of ten blocks         8        31       176        90       129
    t of ten blocks                   9        26       171        75       117
    t, with the correction            5        11         8         3         4

What blocks of one run cannot tell is how one run differs from the next, whatever is compared: a `least` difference of
its own stands for that (lab/report/figures.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, variance
from typing import TYPE_CHECKING, Any, NamedTuple

from lab.measure.student import quantile
from lab.measure.summary import Summary, summarise

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LEVEL = 0.01
"""Chance of a difference that is none, in a whole comparison."""
LEAST_UNITS = 3
"""Repeats, trials or rounds a side: of two, an interval is so wide that it holds everything."""
LEAST_BLOCKS, MOST_BLOCKS = 5, 10
"""Blocks a side, where one run is all there is."""
FEW_DEGREES = 4
MOST_CORRELATION = 0.9
MOST_EXPONENT = 700.0
"""e to this power is nearly the greatest number that there is."""
RANGE_DEVIATIONS = {
    2: (1.41, 1.0), 3: (1.91, 2.0), 4: (2.24, 2.9), 5: (2.48, 3.8), 6: (2.67, 4.7), 7: (2.83, 5.5), 8: (2.96, 6.3),
    9: (3.08, 7.0), 10: (3.18, 7.7),
}  # fmt: skip
"""Number of values → standard deviations in their range, and degrees of freedom of that estimate (Duncan, Quality
Control and Industrial Statistics, table D3)."""
MEDIAN_VARIANCE = math.pi / 2
"""Variance of a median over that of a mean, at most, for values of a normal distribution."""


RATIO, SUM = "ratio", "sum"
"""Scales of a difference: where all figures are greater than 0, one is so many times the other; else so much more."""


class Estimate(NamedTuple):
    """A mean, its squared standard error, and the degrees of freedom of that; infinite error where nothing is known."""

    mean: float
    squared_error: float
    degrees: float


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric of one side of a comparison."""

    summary: Summary
    values: tuple[float, ...] = ()
    """One a unit; empty where only the summary was kept."""
    least_units: int = LEAST_UNITS
    least: float = 0.0
    """Difference that is called one, at least, as a share: the metric's resolution, or what runs differ by anyway."""
    least_absolute: float = 0.0
    """The same where the scale is a sum, in the metric's own unit."""
    judged: bool = True
    """False for what these units cannot decide, and for what says how it was measured rather than what."""

    @property
    def is_known(self) -> bool:
        """Return whether there are units enough to judge it."""
        return self.judged and self.summary["n"] >= self.least_units

    def estimate(self, scale: str) -> Estimate:
        """Return mean and error, of logarithms where the scale is a ratio."""
        if self.values:
            return of_values([math.log(value) for value in self.values] if scale == RATIO else self.values)
        return of_range(self.summary, scale)


@dataclass(frozen=True, slots=True)
class Difference:
    """Distance of the second side from the first, and the interval that holds the true difference.

    On a ratio's scale they are shares: 0.1 where the second is 1.1 times the first.
    """

    scale: str
    value: float
    low: float
    high: float
    differs: bool | None
    """None: these units cannot tell."""


def figure_of(values: Sequence[float], unit: str, **limits: Any) -> Figure:
    """Return the figure of units that were measured. Raises ValueError where there is none."""
    return Figure(summarise(values, unit), tuple(values), **limits)


def of_values(values: Sequence[float]) -> Estimate:
    """Return the estimate from a value a unit."""
    count = len(values)
    return Estimate(fmean(values), variance(values) / count if count > 1 else math.inf, max(1, count - 1))


def of_range(summary: Summary, scale: str = SUM) -> Estimate:
    """Return the estimate where only median, extremes and number of the values were kept.

    The range of so many values is so many standard deviations wide, as control charts have it.
    """
    middle, least, most = (
        math.log(value) if scale == RATIO else value for value in (summary["median"], summary["min"], summary["max"])
    )
    count = summary["n"]
    if count < min(RANGE_DEVIATIONS):
        return Estimate(middle, math.inf, 1)
    deviations, degrees = RANGE_DEVIATIONS[min(count, max(RANGE_DEVIATIONS))]
    return Estimate(middle, MEDIAN_VARIANCE * ((most - least) / deviations) ** 2 / count, degrees)


def block_bounds(seconds: int) -> list[tuple[int, int]]:
    """Return where each block of a run of so many seconds begins and ends, in seconds; the first ones may be left out.

    As many as may be, since a block is at least a second; the odd seconds are taken from the beginning, where a run is
    least like itself.
    """
    blocks = min(MOST_BLOCKS, seconds)
    length = seconds // blocks if blocks else 0
    begin = seconds - blocks * length
    return [(begin + number * length, begin + (number + 1) * length) for number in range(blocks)]


def dependence(sides: Iterable[Sequence[Sequence[float]]]) -> float:
    """Return by how much blocks that depend on one another enlarge a variance: 1 where they do not.

    `sides` has for each side its metrics, and for each metric a value a block, in order.
    """
    found = [_correlation(values) for metrics in sides for values in metrics]
    known = [(correlation, count) for correlation, count in found if correlation is not None]
    if not known:
        return 1.0
    raw = fmean(correlation for correlation, _ in known)
    # Too small by (1 + 3 r) / n on average; one more 1 / n since it is as often smaller than that as greater.
    corrected = raw + (2 + 3 * max(raw, 0.0)) / min(count for _, count in known)
    correlation = min(MOST_CORRELATION, max(0.0, corrected))
    return (1 + correlation) / (1 - correlation)


def _correlation(values: Sequence[float]) -> tuple[float | None, int]:
    """Return the correlation of neighbours, None where nothing varies; and how many values there are."""
    mean = fmean(values) if values else 0.0
    away = [value - mean for value in values]
    squares = sum(each * each for each in away)
    products = sum(one * other for one, other in pairwise(away))
    return (products / squares if squares else None), len(values)


def differences(pairs: Sequence[tuple[Figure, Figure]], enlarged: float = 1.0) -> list[Difference]:
    """Return the difference of each pair of figures; all pairs share one error level.

    `enlarged` is what `dependence` says of blocks.
    """
    judged = sum(first.is_known and second.is_known and _varies(first, second) for first, second in pairs)
    return [_difference(*pair, LEVEL / max(1, judged), enlarged) for pair in pairs]


def _varies(first: Figure, second: Figure) -> bool:
    """Return whether anything at all differs: what does not cannot be taken for a difference, and uses up no error."""
    return len({first.summary["min"], first.summary["max"], second.summary["min"], second.summary["max"]}) > 1


def _difference(first: Figure, second: Figure, level: float, enlarged: float) -> Difference:
    scale = RATIO if min(first.summary["min"], second.summary["min"]) > 0 else SUM
    one, other = first.estimate(scale), second.estimate(scale)
    value, margin = other.mean - one.mean, _margin(one, other, level, enlarged)
    low, high, apart = value - margin, value + margin, abs(value) > margin
    if scale == RATIO:
        value, low, high = _expm1(value), _expm1(low), _expm1(high)
    known = first.is_known and second.is_known
    differs = apart and abs(value) > _least(first, second, scale) if known else None
    return Difference(scale, value, low, high, differs)


def _expm1(value: float) -> float:
    """Return e^value - 1, infinite where that is too great to say."""
    return math.expm1(value) if value < MOST_EXPONENT else math.inf


def _least(first: Figure, second: Figure, scale: str) -> float:
    """Return the difference below which none is called one."""
    share = max(first.least, second.least)
    if scale == RATIO:
        return share
    greater = max(abs(first.summary["median"]), abs(second.summary["median"]))
    return max(share * greater, first.least_absolute, second.least_absolute)


def _margin(first: Estimate, second: Estimate, level: float, enlarged: float) -> float:
    """Return half the width of the interval."""
    squared = first.squared_error + second.squared_error
    if not math.isfinite(squared):
        return math.inf
    if not squared:
        return 0.0  # nothing varied on either side
    degrees = max(1.0, _degrees(first, second) / enlarged)
    return quantile(level / 2, degrees) * math.sqrt(squared * enlarged)


def _degrees(first: Estimate, second: Estimate) -> float:
    """Return the degrees of freedom of the difference's error."""
    # Of three or four units a side the errors are so badly known that Welch's rule finds half of what Student's does;
    # and Student's errs no more than twice as often as it should where one deviation is three times the other.
    if first.degrees == second.degrees < FEW_DEGREES:
        return first.degrees + second.degrees
    squared = first.squared_error + second.squared_error
    return squared**2 / (first.squared_error**2 / first.degrees + second.squared_error**2 / second.degrees)
