"""Slope of a series by Theil and Sen: the median over the slopes of all pairs of points, and an interval around it.

Chosen over least squares since what disturbs memory is a spike (a burst of connections, a checkpoint), and 29 % of the
points would have to be spikes to move this slope at will.

The interval is Sen's (Journal of the American Statistical Association 63, 1968, 1379): of the N slopes in order those
at (N ∓ z σ) / 2, σ² = n (n - 1) (2 n + 5) / 18 being the variance of Kendall's S where there is no trend. That holds
for points that do not depend on one another; memory's do. So points are medians of blocks, and σ² is multiplied by what
`lab.measure.difference.dependence` finds in the residuals. tests/reliability/test_slope.py tries that on made series.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations, pairwise
from statistics import NormalDist, median
from typing import NamedTuple

from lab.measure.difference import dependence

LEVEL = 0.99
MOST_BLOCKS = 24
LEAST_BLOCKS = 6


class Slope(NamedTuple):
    """Change a unit of time, and the interval that holds the true one in `LEVEL` of all cases."""

    value: float
    low: float
    high: float
    points: int


def slope(times: Sequence[float], values: Sequence[float]) -> Slope:
    """Return the slope of the medians of blocks. Raises ValueError for too short a series."""
    count = min(MOST_BLOCKS, len(values) // 2)
    if count < LEAST_BLOCKS:
        raise ValueError(f"{len(values)} values are too few: at least {2 * LEAST_BLOCKS} are needed")
    bounds = [round(number * len(values) / count) for number in range(count + 1)]
    blocks = list(pairwise(bounds))
    return of_points(
        [median(times[begin:end]) for begin, end in blocks], [median(values[begin:end]) for begin, end in blocks]
    )


def of_points(times: Sequence[float], values: Sequence[float]) -> Slope:
    """Return the slope of these points."""
    points = list(zip(times, values, strict=True))
    slopes = sorted((late[1] - early[1]) / (late[0] - early[0]) for early, late in combinations(points, 2))
    middle, n = median(slopes), len(points)
    residuals = [value - middle * at for at, value in points]
    deviation = math.sqrt(n * (n - 1) * (2 * n + 5) / 18 * dependence([[residuals]]))
    half = NormalDist().inv_cdf((1 + LEVEL) / 2) * deviation / 2
    low, high = math.floor(len(slopes) / 2 - half), math.ceil(len(slopes) / 2 + half)
    return Slope(
        middle,
        slopes[low] if low >= 0 else -math.inf,
        slopes[high] if high < len(slopes) else math.inf,
        n,
    )
