"""Histograms: quantiles beside sorted data, adding, both ends, JSON, and what coordinated omission hid."""

from __future__ import annotations

import itertools
import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.top.readings import quantile
from loadtests.histogram import BOUNDS_SECONDS, BUCKETS, HIGHEST_NS, LOWEST_NS, NS, SHARES, Histogram

MOST_ERROR = 0.03
VALUES = 20_000
LOWEST, HIGHEST = LOWEST_NS / NS, HIGHEST_NS / NS
CHANCE = random.Random(14)
SHAPES = {
    "constant": lambda: 0.0011,
    "uniform": lambda: CHANCE.uniform(1e-6, 60),
    "narrow": lambda: CHANCE.gauss(0.005, 0.00001),
    "exponential": lambda: CHANCE.expovariate(1000),
    "bimodal": lambda: CHANCE.gauss(0.0002, 0.00002) if CHANCE.random() < 0.9 else CHANCE.gauss(0.2, 0.01),
    "heavy tail": lambda: 1e-5 * CHANCE.paretovariate(0.8),
    "log-normal": lambda: CHANCE.lognormvariate(-7, 2),
    "log-uniform": lambda: 10 ** CHANCE.uniform(-6, 1.77),
    "steps": lambda: CHANCE.choice((0.001, 0.0025, 0.005, 1.0)),
    "one late": lambda: 60.0 if CHANCE.random() < 0.0005 else 0.000_05,
    "powers of two": lambda: 2.0 ** CHANCE.randint(-19, 5),
}


def filled(*seconds):
    histogram = Histogram()
    for value in seconds:
        histogram.record_seconds(value)
    return histogram


def true_quantile(ordered, share):
    """The value of this rank: the smallest that `share` of the values do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered) - 1e-9) - 1)]


@pytest.mark.parametrize("shape", SHAPES)
def test_quantiles_of_a_shape_are_those_of_the_sorted_values(shape):
    values = sorted(min(HIGHEST, max(LOWEST, SHAPES[shape]())) for _ in range(VALUES))
    histogram = filled(*values)
    for share in (0, 0.001, 0.1, 0.25, *SHARES.values(), 0.9999, 1):
        assert histogram.quantile(share) == pytest.approx(true_quantile(values, share), rel=MOST_ERROR), share
    assert histogram.max_seconds == pytest.approx(values[-1], abs=1e-9)
    assert histogram.mean_seconds == pytest.approx(math.fsum(values) / VALUES, rel=1e-3)


@given(st.lists(st.floats(LOWEST, HIGHEST), min_size=1), st.floats(0, 1))
def test_quantiles_of_any_values_are_those_of_the_sorted_ones(values, share):
    assert filled(*values).quantile(share) == pytest.approx(true_quantile(sorted(values), share), rel=MOST_ERROR)


def test_equal_values_give_that_value():
    histogram = filled(*[0.0011] * VALUES)
    assert [histogram.quantile(share) for share in SHARES.values()] == [0.0011] * 4


def test_share_that_binary_fractions_miss_names_the_right_value():
    assert filled(*range(1, 101)[:50]).quantile(0.14) == pytest.approx(7, rel=0.01)


def test_empty_histogram_has_no_quantile():
    empty = Histogram()
    assert (empty.quantile(0.5), empty.mean_seconds, empty.count) == (None, None, 0)


@pytest.mark.parametrize("share", [-0.1, 1.1, 99, math.nan])
def test_share_outside_is_refused(share):
    with pytest.raises(ValueError, match="from 0 to 1"):
        filled(1).quantile(share)


def test_values_outside_are_clamped_and_counted():
    histogram = filled(-1, 0, 1e-9, 0.001, 61, 3600)
    assert (histogram.count, histogram.below, histogram.above) == (6, 3, 2)
    assert histogram.quantile(0.01) == pytest.approx(LOWEST, rel=MOST_ERROR)
    assert histogram.quantile(0.8) == pytest.approx(HIGHEST, rel=MOST_ERROR)
    assert histogram.max_seconds == 3600


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_time_is_refused(value):
    with pytest.raises((ValueError, OverflowError)):
        filled(value)


def test_memory_is_bounded():
    histogram = filled(*(LOWEST * 1.001**step for step in range(18_000)))
    assert len(histogram.counts) == len(BUCKETS) < 2000


@given(st.lists(st.floats(0, 80)), st.lists(st.floats(0, 80)))
def test_adding_is_as_if_one_had_seen_all(some, others):
    added = filled(*some)
    added.add(filled(*others))
    assert added == filled(*some, *others)


@given(st.lists(st.floats(0, 80)))
def test_json_gives_the_same_histogram(values):
    histogram = filled(*values)
    assert Histogram.from_json(json.loads(json.dumps(histogram.to_json()))) == histogram


@pytest.mark.parametrize(
    "change",
    [{"count": 3}, {"counts": {"5": 2}}, {"counts": {"400": -2, "401": 4}}, {"counts": [1, 1]}, {"sum_ns": None}],
)
def test_json_that_is_no_histogram_is_refused(change):
    with pytest.raises(ValueError, match="no histogram"):
        Histogram.from_json({**filled(0.1, 0.2).to_json(), **change})
    with pytest.raises(ValueError, match="no histogram"):
        Histogram.from_json({})


def test_cumulated_counts_have_no_value_above_their_bound():
    histogram = filled(0.0005, 0.001, 0.0021, 0.5)
    assert histogram.cumulated((0.0001, 0.00052, 0.00102, 0.1, 1.0)) == [0, 1, 2, 3, 4]


def test_bounds_for_prometheus_are_fine_from_10_us_to_a_minute():
    assert BOUNDS_SECONDS[0] <= 1e-5
    assert BOUNDS_SECONDS[-1] >= 54
    assert all(low < high <= 1.1 * low for low, high in itertools.pairwise(BOUNDS_SECONDS))
    assert len(BOUNDS_SECONDS) < 200


@pytest.mark.parametrize("shape", SHAPES)
def test_quantiles_by_prometheus_are_true_within_10_percent(shape):
    values = sorted(min(50.0, max(1.1e-5, SHAPES[shape]())) for _ in range(VALUES))
    histogram = filled(*values)
    buckets = [*zip(BOUNDS_SECONDS, histogram.cumulated(BOUNDS_SECONDS), strict=True), (math.inf, histogram.count)]
    for share in SHARES.values():
        assert quantile(share, buckets) == pytest.approx(true_quantile(values, share), rel=0.1), share


def test_steps_reach_all_values():
    assert filled(0.001, 0.001, 0.1, 2.0).steps() == [
        (pytest.approx(0.001, rel=0.01), 0.5),
        (pytest.approx(0.1, rel=0.01), 0.75),
        (2.0, 1.0),
    ]


# Coordinated omission.


def one_by_one(seconds, interval):
    histogram = filled(seconds)
    missing = int(seconds * NS) - int(interval * NS)
    while missing >= int(interval * NS):
        histogram.add(filled(missing / NS))
        missing -= int(interval * NS)
    return histogram


@pytest.mark.parametrize(
    ("seconds", "interval"),
    [(1.0, 0.001), (0.5, 0.3), (0.3, 0.1), (59, 0.0078125), (0.01, 0.02), (64, 0.0625), (0.0001, 1e-6)],
)
def test_correction_adds_the_requests_that_were_not_sent(seconds, interval):
    histogram = Histogram()
    histogram.record_corrected_seconds(seconds, interval)
    expected = one_by_one(seconds, interval)
    assert histogram.count == expected.count
    assert (histogram.below, histogram.above) == (expected.below, expected.above)
    for share in SHARES.values():
        assert histogram.quantile(share) == pytest.approx(expected.quantile(share), rel=MOST_ERROR)
    assert histogram.mean_seconds == pytest.approx(expected.mean_seconds, rel=1e-3)


def test_correction_shows_a_stall_that_the_plain_quantile_hides():
    plain, corrected = Histogram(), Histogram()
    for seconds in [0.001] * 999 + [10.0]:  # every 10 ms, and once 10 s
        plain.record_seconds(seconds)
        corrected.record_corrected_seconds(seconds, 0.01)
    assert plain.quantile(0.99) == pytest.approx(0.001, rel=MOST_ERROR)
    assert corrected.quantile(0.99) == pytest.approx(9.8, rel=MOST_ERROR)


def test_correction_of_a_long_stall_takes_no_time():
    histogram = Histogram()
    histogram.record_corrected_seconds(60.0, 1e-6)
    assert histogram.count == 60_000_000


@pytest.mark.parametrize("interval", [0, -1, math.nan])
def test_interval_that_is_none_is_refused(interval):
    with pytest.raises(ValueError, match="above 0"):
        Histogram().record_corrected_seconds(1, interval)
