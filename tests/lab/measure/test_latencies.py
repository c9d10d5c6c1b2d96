"""Quantiles as they are shown: in ms, with the digits that mean something."""

from __future__ import annotations

import pytest

from lab.measure.latencies import HEADINGS, milliseconds, quantiles_ms, row_ms
from loadtests.histogram import Histogram


def test_quantiles_are_those_of_20000_equal_values():
    histogram = Histogram()
    for _ in range(20_000):
        histogram.record_seconds(0.0011)
    assert quantiles_ms(histogram) == pytest.approx(dict.fromkeys(("p50", "p90", "p99", "p99.9", "max"), 1.1))
    assert row_ms(histogram) == ["1.10"] * (1 + len(HEADINGS))


def test_quantiles_of_nothing_are_none():
    assert set(quantiles_ms(Histogram()).values()) == {None}
    assert row_ms(Histogram()) == ["-"] * (1 + len(HEADINGS))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0412, "0.0412"), (0.412, "0.412"), (1.1, "1.10"), (25.34, "25.3"), (100.4, "100"), (1204.2, "1,204")],
)
def test_milliseconds_have_three_digits_or_more(value, text):
    assert milliseconds(value) == text
