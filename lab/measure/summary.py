"""Summary of several measurements of one thing: median and spread, never a lone number."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Sequence


class Summary(TypedDict):
    """The form in which every metric appears in the lab's JSON."""

    median: float
    min: float
    max: float
    unit: str
    n: int


def summarise(values: Sequence[float], unit: str) -> Summary:
    """Median, least and greatest of `values`. Raises ValueError when there are none."""
    if not values:
        raise ValueError("nothing was measured")
    return Summary(median=median(values), min=min(values), max=max(values), unit=unit, n=len(values))


def overlap(one: Summary, other: Summary) -> bool:
    """Return whether the spreads overlap: then the two are called no different."""
    return one["min"] <= other["max"] and other["min"] <= one["max"]
