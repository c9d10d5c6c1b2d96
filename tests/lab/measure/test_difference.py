"""Differences on made data: how often there seems to be one where there is none, and which are found."""

from __future__ import annotations

import math
import random

import pytest

from lab.measure.difference import (
    LEAST_UNITS,
    RATIO,
    SUM,
    Figure,
    block_bounds,
    dependence,
    differences,
    figure_of,
    of_range,
    of_values,
)
from lab.measure.summary import summarise

METRICS = 5


def series(chance, count, correlation, metrics=METRICS, hiccups=0.0):
    """Values of several metrics that are alike in part, each correlated with the one before it."""
    last, found = [chance.gauss(0, 1) for _ in range(metrics)], [[] for _ in range(metrics)]
    for _ in range(count):
        shared, hiccup = chance.gauss(0, 1), chance.expovariate(0.2) if chance.random() < hiccups else 0.0
        for number in range(metrics):
            new = math.sqrt(0.5) * (shared + chance.gauss(0, 1))
            last[number] = correlation * last[number] + math.sqrt(1 - correlation**2) * new
            found[number].append(20 * math.exp(0.05 * (last[number] + hiccup)))
    return found


def blocks(values, seconds):
    return [sum(values[begin:end]) / (end - begin) for begin, end in block_bounds(seconds)]


def compared(one, other, depends):
    pairs = [(figure_of(a, "ms"), figure_of(b, "ms")) for a, b in zip(one, other, strict=True)]
    return differences(pairs, dependence([one, other]) if depends else 1.0)


def seem_to_differ(seed, comparisons, seconds, correlation, hiccups=0.0):
    """Number of comparisons of a thing with itself, within one run each, that show any difference."""
    chance, found = random.Random(seed), 0
    for _ in range(comparisons):
        sides = [
            [blocks(values, seconds) for values in series(chance, seconds, correlation, hiccups=hiccups)]
            for _ in range(2)
        ]
        found += any(difference.differs for difference in compared(*sides, depends=True))
    return found


@pytest.mark.parametrize(
    ("seconds", "correlation", "hiccups"), [(10, 0, 0), (20, 0.3, 0), (30, 0.6, 0), (60, 0.8, 0), (30, 0.3, 0.05)]
)
def test_runs_of_the_same_thing_hardly_ever_differ(seconds, correlation, hiccups):
    assert seem_to_differ(1, 200, seconds, correlation, hiccups) <= 6


def test_blocks_that_depend_on_one_another_would_differ_without_the_correction():
    chance, found = random.Random(2), {True: 0, False: 0}
    for _ in range(200):
        sides = [[blocks(values, 20) for values in series(chance, 20, 0.7)] for _ in range(2)]
        for depends in found:
            found[depends] += any(difference.differs for difference in compared(*sides, depends))
    assert found[True] <= 10 < 30 <= found[False]


@pytest.mark.parametrize("count", [3, 5, 10])
def test_repeats_of_the_same_thing_hardly_ever_differ(count):
    chance = random.Random(3)
    sides = [[series(chance, count, 0, hiccups=0.1) for _ in range(2)] for _ in range(200)]
    assert sum(any(difference.differs for difference in compared(*both, depends=False)) for both in sides) <= 6


@pytest.mark.parametrize(("seconds", "depends"), [(10, True), (30, True), (5, False)])
def test_ten_percent_more_is_found(seconds, depends):
    chance, found = random.Random(4), 0
    for _ in range(50):
        one, other = series(chance, seconds, 0.2), series(chance, seconds, 0.2)
        sides = [[blocks(values, seconds) if depends else values for values in side] for side in (one, other)]
        sides[0], sides[1] = ([[20 + (value - 20) / 5 for value in values] for values in side] for side in sides)
        sides[1][0] = [1.1 * value for value in sides[1][0]]
        verdicts = [difference.differs for difference in compared(*sides, depends)]
        found += verdicts == [True] + [False] * (METRICS - 1)
    assert found >= 45


def test_an_interval_holds_the_true_ratio():
    chance = random.Random(5)
    one, other = series(chance, 10, 0, metrics=1), series(chance, 10, 0, metrics=1)
    [found] = compared(one, [[2 * value for value in other[0]]], depends=False)
    assert found.scale == RATIO
    assert found.low < 1 < found.high
    assert found.low > 0.5


def test_where_a_figure_is_zero_the_difference_is_a_sum():
    [found] = differences([(figure_of([0, 0, 1, 0, 0], "%"), figure_of([10, 11, 10, 10, 9], "%"))])
    assert (found.scale, found.differs) == (SUM, True)
    assert found.value == pytest.approx(9.8)


def test_of_several_metrics_each_has_a_wider_interval():
    pair = (figure_of([10, 11, 12], "ms"), figure_of([12, 13, 14], "ms"))
    alone, together = differences([pair])[0], differences([pair] * 10)[0]
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_a_metric_that_never_varies_widens_no_interval():
    pair, constant = (figure_of([10, 11, 12], "ms"), figure_of([12, 13, 14], "ms")), figure_of([0, 0, 0], "")
    assert differences([pair, (constant, constant)])[0] == differences([pair])[0]


@pytest.mark.parametrize(("second", "differs"), [([5, 5, 5], False), ([6, 6, 6], True)])
def test_counts_that_never_vary_differ_where_they_are_not_the_same(second, differs):
    [found] = differences([(figure_of([5, 5, 5], ""), figure_of(second, ""))])
    assert found.differs is differs


def test_a_difference_below_the_resolution_is_none():
    one, other = [100.0, 100.1, 99.9], [102.0, 102.1, 101.9]
    [fine] = differences([(figure_of(one, "ms"), figure_of(other, "ms"))])
    [coarse] = differences([(figure_of(one, "ms", least=0.03), figure_of(other, "ms", least=0.03))])
    assert (fine.differs, coarse.differs) == (True, False)


def test_too_few_units_tell_nothing():
    few = figure_of([1.0] * (LEAST_UNITS - 1), "ms")
    [found] = differences([(few, figure_of([100.0] * 5, "ms"))])
    assert found.differs is None


def test_what_is_not_judged_is_shown_with_its_interval():
    one, other = figure_of([1.0, 1.1, 0.9], "ms", judged=False), figure_of([9.0, 9.1, 8.9], "ms", judged=False)
    [found] = differences([(one, other)])
    assert found.differs is None
    assert found.value == pytest.approx(8, rel=0.1)


def test_a_single_value_has_an_endless_interval():
    [found] = differences([(figure_of([1.0], "ms"), figure_of([2.0], "ms"))])
    assert (found.differs, found.high) == (None, math.inf)


def test_a_range_tells_the_error_nearly_as_well_as_the_values():
    chance, known, guessed = random.Random(6), 0.0, 0.0
    for _ in range(300):
        values = [chance.gauss(100, 5) for _ in range(7)]
        known += of_values(values).squared_error
        guessed += of_range(summarise(values, "ms")).squared_error
    assert 1.2 < guessed / known < 2  # a median is worth less than a mean


def test_rounds_of_which_only_summaries_were_kept_hardly_ever_differ_and_show_twice_as_much():
    chance, same, doubled = random.Random(7), 0, 0
    for _ in range(200):
        one, other = (
            [summarise([chance.lognormvariate(3, 0.15) for _ in range(7)], "ms") for _ in range(METRICS)]
            for _ in range(2)
        )
        pairs = [(Figure(a), Figure(b)) for a, b in zip(one, other, strict=True)]
        same += any(difference.differs for difference in differences(pairs))
        pairs[0] = (pairs[0][0], Figure({**one[0], **{key: 2 * one[0][key] for key in ("median", "min", "max")}}))
        doubled += differences(pairs)[0].differs
    assert same <= 6
    assert doubled >= 190


@pytest.mark.parametrize(
    ("seconds", "first", "last", "number"),
    [(10, (0, 1), (9, 10), 10), (29, (9, 11), (27, 29), 10), (6, (0, 1), (5, 6), 6)],
)
def test_blocks_are_ten_whole_ones_that_end_with_the_run(seconds, first, last, number):
    found = block_bounds(seconds)
    assert (found[0], found[-1], len(found)) == (first, last, number)


def test_a_run_without_seconds_has_no_blocks():
    assert block_bounds(0) == []


def test_values_that_never_vary_do_not_depend_on_one_another():
    assert dependence([[[1.0, 1.0, 1.0]], [[]]]) == 1
