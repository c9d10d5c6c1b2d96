"""What is kept of an experiment's runs: how often it came out so, and whether its claims can fail."""

import json

import pytest


def changed(document, *, commit="abc", cpus=2, **fields):
    return document | fields | {"environment": document["environment"] | {"commit": commit, "cpus": cpus}}


def test_stored_result_is_small(document, stored):
    result = stored(document)
    assert len(json.dumps(result)) < 3500
    assert "trials" not in result["arms"][0]


def test_result_of_a_changed_checkout_is_not_stored(document, stored):
    with pytest.raises(ValueError, match="commit, and run it again"):
        stored(changed(document, commit="abc1234+"))


@pytest.mark.parametrize("change", [{"effort": "quick"}, {"control": "swapped"}])
def test_quick_runs_and_controls_are_not_stored(document, stored, change):
    with pytest.raises(ValueError, match="no full run"):
        stored(document | change)


def test_runs_in_a_row_are_those_at_its_commit_and_none_is_left_out(document, stored):
    row = [changed(document, verdict=verdict) for verdict in ("holds", "inconclusive", "fails", "holds")]
    beside = [
        changed(document, effort="quick", verdict="quick"),
        changed(document, control="swapped", verdict="control"),
    ]
    assert [run["verdict"] for run in stored(*row, *beside[:1], *row[:1], *beside[1:], document)["runs"]] == [
        "holds", "holds", document["verdict"],
    ]  # fmt: skip


def test_run_at_another_commit_ends_the_row(document, stored):
    other = changed(document, commit="bcd")
    assert len(stored(document, other, document, document)["runs"]) == 2


def test_last_run_of_each_control_is_stored_in_either_form(document, stored):
    first, last = (changed(document, control="swapped", effort=effort) for effort in ("full", "quick"))
    ran = stored(first, last, document)["controls"]["swapped"]
    assert (ran["effort"], ran["commit"], ran["cpus"]) == ("quick", "abc", 2)
    assert [check["name"] for check in ran["checks"]] == ["short", "long"]
    assert ran["arms"] == {"<sharded>": {"model": "reuseport", "workers": 2}}


@pytest.mark.parametrize(
    ("commit", "begun", "counts"),
    [
        ("abc", "2026-11-23T01:00:00+00:00", True),
        ("bcd", "2026-11-23T01:00:00+00:00", False),
        ("bcd", "2026-11-23T23:00:00+00:00", True),
        ("bcd+", "2026-11-23T23:00:00+00:00", False),
    ],
    ids=["same commit", "earlier commit", "later commit", "later, of no commit"],
)
def test_control_counts_at_the_commit_of_the_result_or_later(document, stored, commit, begun, counts):
    control = changed(document, control="swapped", commit=commit, begun=begun)
    assert ("swapped" in stored(control, document)["controls"]) is counts
