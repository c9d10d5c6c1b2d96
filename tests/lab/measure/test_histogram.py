"""Histograms: where values fall, how two add up, what percentiles they give."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.measure.histogram import BUCKETS_SECONDS, Histogram


def filled(*seconds):
    histogram = Histogram()
    for value in seconds:
        histogram.observe(value)
    return histogram


def test_buckets_are_fine_from_100_us_to_10_s():
    assert (BUCKETS_SECONDS[0], BUCKETS_SECONDS[-1]) == (0.0001, 10.0)
    assert all(high / low <= 2.5 + 1e-9 for low, high in itertools.pairwise(BUCKETS_SECONDS))


def test_a_bound_belongs_to_the_bucket_that_it_ends():
    assert filled(0.001).counts[BUCKETS_SECONDS.index(0.001)] == 1


def test_what_is_above_the_last_bound_is_counted_too():
    histogram = filled(11.0)
    assert (histogram.counts[-1], histogram.count, histogram.quantile(0.5)) == (1, 1, 10.0)


def test_empty_histogram_has_no_quantile():
    assert Histogram().quantile(0.5) is None


def test_quantile_is_linear_within_its_bucket():
    assert filled(*[0.002] * 4).quantile(0.5) == pytest.approx(0.00175)


@given(st.lists(st.floats(0, 10), min_size=1), st.floats(0, 1))
def test_quantile_lies_in_the_bucket_of_the_true_one(values, share):
    measured = filled(*values).quantile(share)
    true = sorted(values)[max(0, min(len(values) - 1, -int(-share * len(values) // 1) - 1))]
    above = next(bound for bound in BUCKETS_SECONDS if true <= bound)
    below = max((bound for bound in (0.0, *BUCKETS_SECONDS) if bound < true), default=0.0)
    assert below <= measured <= above or measured <= above


@given(st.lists(st.floats(0, 20)), st.lists(st.floats(0, 20)))
def test_adding_is_as_if_one_had_seen_all(some, others):
    added = filled(*some)
    added.add(filled(*others))
    assert added.counts == filled(*some, *others).counts
    assert added.sum_seconds == pytest.approx(sum(some) + sum(others))
