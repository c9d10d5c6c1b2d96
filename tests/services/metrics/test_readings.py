"""Totals of counters that come and go, and cached figures."""

from services.metrics.readings import Cached, Growth


def test_growth_adds_what_each_counter_gained():
    growth = Growth()
    assert growth.add({"a": 10, "b": 1}) == 11
    assert growth.add({"a": 15, "b": 1}) == 16


def test_growth_when_a_counter_vanishes_takes_nothing_back():
    growth = Growth()
    growth.add({"a": 10, "b": 5})
    assert growth.add({"b": 5}) == 15


def test_growth_when_one_reading_misses_a_counter_does_not_count_it_again():
    growth = Growth()
    growth.add({"a": 10})
    growth.add({})
    assert growth.add({"a": 12}) == 12


def test_growth_when_a_number_is_reused_counts_the_successor_in_full():
    growth = Growth()
    growth.add({"a": 10})
    assert growth.add({"a": 3}) == 13


def test_growth_forgets_counters_not_seen_any_more():
    growth = Growth()
    for number in range(1000):
        growth.add({number: 1})
    assert len(growth._last) + len(growth._before) == 2
    assert growth.total == 1000


def test_cached_reads_again_only_after_its_time():
    values = iter(range(10))
    lasting, short = Cached(60, lambda: next(values)), Cached(0, lambda: next(values))
    assert [lasting.get(), lasting.get()] == [0, 0]
    assert [short.get(), short.get()] == [1, 2]
