"""Quantiles of response times, as every table, page and document of the lab shows them."""

from __future__ import annotations

from loadtests.histogram import SHARES, Histogram

HEADINGS = (*SHARES, "max")


def quantiles_ms(histogram: Histogram) -> dict[str, float | None]:
    """Return p50, p90, p99, p99.9 (each true within 1 %) and max (exact), in ms; None where nothing was measured."""
    seconds = {name: histogram.quantile(share) for name, share in SHARES.items()}
    seconds["max"] = histogram.max_seconds if histogram.count else None
    return {name: None if value is None else 1000 * value for name, value in seconds.items()}


def row_ms(histogram: Histogram) -> list[str]:
    """Return the mean and the quantiles as cells of a table, in ms."""
    mean = histogram.mean_seconds
    cells = [None if mean is None else 1000 * mean, *quantiles_ms(histogram).values()]
    return ["-" if value is None else milliseconds(value) for value in cells]


def milliseconds(value: float) -> str:
    """Write three digits or more: 0.0412, 1.10, 25.3, 1,204."""
    decimals = 4 if value < 0.1 else 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{decimals}f}"
