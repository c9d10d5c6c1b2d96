"""Student's t distribution: how far a mean of few values may lie from the true one by chance.

`scipy.stats.t` says the same, but would be a dependency of 100 MB for two functions; the tests hold these against the
printed tables.
"""

from __future__ import annotations

import math

ITERATIONS, PRECISION = 300, 1e-14
TINY = 1e-300
"""In place of a denominator of 0."""


def survival(statistic: float, degrees: float) -> float:
    """Return the chance that t with so many degrees of freedom is at least `statistic`, which is not negative."""
    # Abramowitz and Stegun, 26.7.1 and 26.5.27: t's tails are an incomplete beta function.
    return _beta(degrees / (degrees + statistic * statistic), degrees / 2, 0.5) / 2


def quantile(chance: float, degrees: float) -> float:
    """Return the statistic that t exceeds with so small a chance, below one half. Found by halving an interval."""
    low, high = 0.0, 1.0
    while survival(high, degrees) > chance:
        low, high = high, 2 * high
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if survival(middle, degrees) > chance else (low, middle)
    return (low + high) / 2


def _beta(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b)."""
    if x <= 0 or x >= 1:
        return min(max(x, 0.0), 1.0)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    # The fraction converges fast on this side of the mean only; the other side is its mirror image.
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(x, a, b) / a
    return 1 - front * _fraction(1 - x, b, a) / b


def _fraction(x: float, a: float, b: float) -> float:
    """Return the continued fraction of Abramowitz and Stegun, 26.5.8, from its head to its tail (Lentz's method)."""
    c, d = 1.0, 1 / _not_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, ITERATIONS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _not_zero(1 + term * d)
            c = _not_zero(1 + term / c)
            value *= c * d
        if abs(c * d - 1) < PRECISION:
            break
    return value


def _not_zero(number: float) -> float:
    return number if abs(number) > TINY else TINY
