"""The pages of docs/experiments: they say what the declarations and the stored results say."""

import json
from dataclasses import replace

import pytest

from lab.experiments import all_experiments
from lab.report import docs, evidence

LONGEST_SECONDS = 180
"""What the full form of an experiment may take."""


@pytest.fixture
def result(document, stored):
    return stored(document)


@pytest.mark.parametrize("name", docs.pages())
def test_page_is_up_to_date(name):
    assert (docs.FOLDER / name).read_text(encoding="utf-8") == docs.pages()[name], "run `make docs`"


def test_there_are_no_pages_and_results_of_experiments_that_are_gone():
    names = {experiment.name for experiment in all_experiments()}
    assert {file.name for file in docs.FOLDER.glob("*.md")} == set(docs.pages())
    assert {file.stem for file in evidence.STORED.glob("*.json")} <= names


EACH = pytest.mark.parametrize("experiment", all_experiments(), ids=lambda each: each.name)


@EACH
def test_stored_result_is_of_the_checks_that_are_declared(experiment):
    result = docs.read_stored(experiment)
    again = f"run `lab run {experiment.name}` and `make docs ARGS={experiment.name}`"
    assert result, again
    stored = {check["name"]: check for check in result["checks"]}
    assert stored.keys() == {check.name for check in experiment.checks}, again
    assert all(docs.same(check, stored[check.name]) for check in experiment.checks), again
    arms = {arm["name"]: arm["parameters"] for arm in result["arms"]}
    assert arms == {arm.name: json.loads(json.dumps(arm.described())) for arm in experiment.arms}, again
    assert result["effort"] == "full"
    assert result["control"] is None
    assert "fails" not in {run["verdict"] for run in result["runs"]}
    assert len(result["runs"]) == evidence.MOST_RUNS, again
    assert max(run["seconds"] for run in result["runs"]) <= LONGEST_SECONDS
    assert not any("trials" in arm for arm in result["arms"])


@EACH
def test_every_stored_control_failed_what_it_names(experiment):
    controls = docs.read_stored(experiment)["controls"]
    again = f"run `lab run {experiment.name} --controls`, then `make docs ARGS={experiment.name}`"
    assert controls.keys() == {control.name for control in experiment.controls}, again
    for control in experiment.controls:
        ran = controls[control.name]
        assert ran["arms"] == {arm.name: json.loads(json.dumps(arm.described())) for arm in control.arms}, again
        found = {check["name"]: check["holds"] for check in ran["checks"]}
        needed = {check.name: max(check.cores, experiment.cores) for check in experiment.checks}
        assert found == {name: False if ran["cpus"] >= needed[name] else None for name in control.fails}, again


def test_page_sets_claims_beside_what_was_measured(experiment, result):
    text = docs.page(experiment, result)
    assert "| the queue is short | at most 2 ms | mean 1.6 ms (1.5 to 1.7) | holds |" in text
    assert "| the queue \\| is long | at least 90 ms |" in text
    assert "**fails**: `lab run made-up` on 2026-11-23, Linux 6.18, 2 cores, Python 3.11.7 with the GIL" in text
    assert "commit abc, 61 s.\n\nOne full run: fails (61 s)." in text
    assert "| median of 3 trials (spread) | shared queue |" in text
    assert "Each 5 times, in turn:" in text
    assert "| mean | 1.6 ms (1.5 to 1.7) | 2.6 ms (2.5 to 2.7) |" in text
    assert "`lab run made-up --control swapped`: they change places. Not run yet:" in text


@pytest.mark.parametrize("changed", ["expected", "claim"])
def test_a_check_that_says_something_else_by_now_shows_no_old_figure(experiment, result, changed):
    result["checks"][0][changed] = "something else"
    text = docs.page(experiment, result)
    assert "| the queue is short | at most 2 ms | – |  |" in text


def test_page_without_a_result_says_so(experiment):
    text = docs.page(experiment, None)
    assert "No result is stored yet." in text
    assert "## Figures" not in text


def test_index_names_every_experiment_and_what_it_came_to(experiment, result):
    text = docs.index([(experiment, result)])
    assert "one after the other, took 1 min." in text
    assert "## Models" in text
    assert "| [`made-up`](made-up.md) | Which queue is <b>shorter</b>? | fails | 61 |" in text


def test_page_shows_the_runs_in_a_row(experiment, result):
    result["runs"] = [{"begun": "", "verdict": "holds", "seconds": seconds} for seconds in (121.4, 120.6, 123.0)]
    assert "3 full runs in a row: holds, holds, holds (121 to 123 s)." in docs.page(experiment, result)
    assert "| holds, holds, holds | 121 to 123 |" in docs.index([(experiment, result)])


def test_page_shows_what_became_of_a_control(experiment, result):
    checks = [
        {"name": "short", "measured": "mean 9 ms", "holds": False},
        {"name": "long", "measured": "3", "holds": None},
    ]
    ran = {"begun": "2026-11-24T22:00", "effort": "quick", "commit": "abc", "cpus": 2, "arms": {}, "checks": checks}
    result["controls"] = {"swapped": ran}
    text = docs.page(experiment, result)
    assert "they change places. On 2026-11-24, quick form, commit abc:\n" in text
    assert "  - the queue is short: **failed, as it must**: mean 9 ms\n" in text
    assert "  - the queue | is long: not decided: 3\n" in text
    checks[1]["holds"] = True
    assert "is long: **holds, which it must not**: 3\n" in docs.page(experiment, result)
    four = replace(experiment, checks=(experiment.checks[0], replace(experiment.checks[1], cores=4)))
    checks[1]["holds"] = None
    assert "is long: not decided, needs 4 cores\n" in docs.page(four, result)


def test_a_page_whose_experiment_is_gone_goes_too(tmp_path):
    (tmp_path / "gone.md").write_text("old")
    docs.write(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == set(docs.pages())
