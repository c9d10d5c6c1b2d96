"""The slope is found among spikes and dependent points, and its interval holds what it promises."""

from __future__ import annotations

import random

import pytest
from reliability.slope import slope

SERIES = 200
POINTS = 300


def made(seed: int, trend: float, correlation: float) -> list[float]:
    """Return a series of deviation 1 whose neighbours are correlated, and a tenth of which are spikes."""
    chance, value, values = random.Random(seed), 0.0, []
    for number in range(POINTS):
        value = correlation * value + chance.gauss(0, (1 - correlation**2) ** 0.5)
        spike = 30.0 if chance.random() < 0.1 else 0.0
        values.append(trend * number + value + spike)
    return values


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.9])
def test_interval_misses_the_true_slope_seldom(correlation: float) -> None:
    found = [slope(range(POINTS), made(seed, 0.01, correlation)) for seed in range(SERIES)]
    missed = sum(not one.low <= 0.01 <= one.high for one in found)
    assert missed <= 0.04 * SERIES  # 1 % is promised, 3 % found where neighbours hang together most


def test_leak_is_told_from_none() -> None:
    leak = slope(range(POINTS), made(1, 0.02, 0.3))
    assert leak.low > 0
    none = slope(range(POINTS), made(1, 0.0, 0.3))
    assert none.low < 0 < none.high


def test_few_values_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 12"):
        slope(range(11), [1.0] * 11)
