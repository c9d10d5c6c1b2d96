"""Probability of a spread at least as uneven as this one, if chance alone made it.

`scipy.stats.chi2.sf` says the same, but would be a dependency of 100 MB for one function; the tests hold this one
against the printed tables.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def evenness(counts: Sequence[float]) -> float:
    """The p of Pearson's test that all of `counts` were drawn with the same chance: small for what is too uneven.

    Source: Abramowitz and Stegun, 26.4.4 and 26.4.5. Raises ValueError for fewer than two counts or none at all.
    """
    total = sum(counts)
    if len(counts) < 2 or not total:
        raise ValueError("there is nothing to compare")
    mean = total / len(counts)
    return survival(sum((count - mean) ** 2 / mean for count in counts), len(counts) - 1)


def survival(statistic: float, degrees: int) -> float:
    """The chance that χ² with so many degrees of freedom is at least `statistic`."""
    half = statistic / 2
    if degrees % 2:
        first, term, start = math.erfc(math.sqrt(half)), math.sqrt(half) / math.gamma(1.5), 3
    else:
        first, term, start = math.exp(-half), half, 4
    for step in range(start, degrees + 1, 2):
        first += term * math.exp(-half)
        term *= half / (step / 2)
    return first
