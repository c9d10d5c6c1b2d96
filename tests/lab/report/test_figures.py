"""Figures of stored runs: which there are, of which units, and what is judged."""

from __future__ import annotations

import pytest
from support.loads import interleaved, load

from lab.records import NoRecordsError
from lab.report.figures import groups_of


def test_one_load_has_blocks_of_its_steady_whole_seconds():
    [group] = groups_of(load(seconds=22, ramp=2))
    # Users come in seconds 0 and 1, and the last is a part of one: 20 are left.
    assert (group.name, group.unit, group.depends) == ("nodejs", "block of 2 s", True)
    assert group.figures["requests"].values == (40.0,) * 10
    assert group.figures["p50"].summary["median"] == pytest.approx(20, rel=0.03)


@pytest.mark.parametrize(("rate", "judged"), [(40, {"p50", "p90"}), (200, {"p50", "p90", "p99"})])
def test_of_one_load_no_quantile_is_judged_that_is_the_maximum_of_a_block(rate, judged):
    [group] = groups_of(load(rate=rate))
    assert {name for name, figure in group.figures.items() if figure.judged} == {"requests", "failed", "mean", *judged}
    assert group.figures["p99.9"].summary["n"] == 10


def test_seconds_in_which_users_leave_are_no_part_of_a_block():
    document = load(seconds=12)
    for entry in document["repeats"][0]["series"][-4:]:
        entry["users"] = 3
    assert groups_of(document)[0].figures["requests"].values == (40.0,) * 8


def test_three_repeats_are_the_units_and_all_is_judged():
    [group] = groups_of(load(repeats=3))
    assert (group.unit, group.depends) == ("repeat", False)
    assert all(figure.judged for figure in group.figures.values())
    assert {"requests", "failed", "mean", "p50", "p90", "p99", "p99.9", "max", "no response"} <= set(group.figures)
    assert group.figures["server's CPU a request"].summary["median"] == pytest.approx(25)


def test_repeats_of_a_paced_load_have_times_from_when_requests_were_due():
    document = load(repeats=3)
    for repeat in document["repeats"]:
        repeat["corrected_histogram"] = repeat["histogram"]
    figures = groups_of(document)[0].figures
    assert figures["p99 as due"] == figures["p99"]


def test_two_repeats_are_too_few_and_their_seconds_are_taken_together():
    [group] = groups_of(load(repeats=2))
    assert group.unit == "block of 1 s"
    assert group.figures["p50"].summary["n"] == 20


def test_an_interleaved_load_has_two_groups():
    groups = groups_of(interleaved(1, 3, 20, 22))
    assert [group.name for group in groups] == ["A nodejs", "B nginx"]


def test_a_second_without_a_response_is_a_second_without_requests():
    document = load()
    del document["repeats"][0]["series"][6]
    [group] = groups_of(document)
    assert group.figures["requests"].summary["min"] == 0
    assert group.figures["p50"].summary["n"] == 9
    assert not group.figures["p50"].judged


def test_a_load_that_was_too_short_has_no_blocks_worth_it():
    [group] = groups_of(load(seconds=3))
    assert not any(figure.is_known for figure in group.figures.values())


def test_experiment_has_arms_and_trials(document):
    groups = groups_of(document)
    assert [(group.name, group.unit) for group in groups] == [("shared queue", "trial"), ("<sharded>", "trial")]
    assert groups[0].figures["mean"].values == pytest.approx((1.5, 1.6, 1.7))


def test_experiment_whose_trials_were_not_kept_has_summaries(document):
    for arm in document["arms"]:
        del arm["trials"]
    figure = groups_of(document)[0].figures["mean"]
    assert (figure.values, figure.summary["n"], figure.is_known) == ((), 3, True)


def test_metrics_about_the_measurement_are_not_judged(document):
    document["arms"][0]["metrics"]["taken by others"] = {"median": 0.1, "min": 0, "max": 0.2, "unit": "", "n": 3}
    assert not groups_of(document)[0].figures["taken by others"].judged


@pytest.mark.parametrize("strange", [{}, {"kind": "fidelity"}, {"rows": []}])
def test_other_documents_are_refused(strange):
    with pytest.raises(NoRecordsError, match="no load, experiment or benchmark"):
        groups_of(strange)
