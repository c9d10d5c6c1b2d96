"""The pages of docs/experiments: they say what the declarations and the stored results say."""

import json

import pytest

from lab.experiments import all_experiments
from lab.report import docs
from lab.report.stored import StoredRun


@pytest.fixture
def result(document, experiment, tmp_path):
    docs.store(StoredRun(tmp_path / "20261123T220000.000-made-up", document), tmp_path)
    return docs.read_stored(experiment, tmp_path)


@pytest.mark.parametrize("name", docs.pages())
def test_page_is_up_to_date(name):
    assert (docs.FOLDER / name).read_text(encoding="utf-8") == docs.pages()[name], "run `make docs`"


def test_there_are_no_pages_and_results_of_experiments_that_are_gone():
    names = {experiment.name for experiment in all_experiments()}
    assert {file.name for file in docs.FOLDER.glob("*.md")} == set(docs.pages())
    assert {file.stem for file in docs.STORED.glob("*.json")} <= names


@pytest.mark.parametrize("experiment", all_experiments(), ids=lambda experiment: experiment.name)
def test_stored_result_is_of_the_checks_that_are_declared(experiment):
    result = docs.read_stored(experiment)
    if result is None:
        pytest.skip("no result is stored yet")
    stored = {check["name"]: check["expected"] for check in result["checks"]}
    again = f"run `lab run {experiment.name}` and `make docs ARGS={experiment.name}`"
    assert stored == {check.name: check.expected for check in experiment.checks}, again
    arms = {arm["name"]: arm["parameters"] for arm in result["arms"]}
    assert arms == {arm.name: json.loads(json.dumps(arm.described())) for arm in experiment.arms}, again
    assert result["effort"] == "full"
    assert result["control"] is None
    assert result["verdict"] != "fails"
    assert not any("trials" in arm for arm in result["arms"])


def test_page_sets_claims_beside_what_was_measured(experiment, result):
    text = docs.page(experiment, result)
    assert "| the queue is short | at most 2 ms | mean 1.6 ms (1.5 to 1.7) | holds |" in text
    assert "| the queue \\| is long | at least 90 ms |" in text
    assert "**fails**: `lab run made-up` on 2026-11-23, Linux 6.18, 2 cores, Python 3.11.7 with the GIL" in text
    assert "| mean | 1.6 ms (1.5 to 1.7) | 2.6 ms (2.5 to 2.7) |" in text
    assert "`lab run made-up --control swapped`: they change place" in text


def test_a_check_that_expects_something_else_by_now_shows_no_old_figure(experiment, result):
    for check in result["checks"]:
        check["expected"] = "something else"
    text = docs.page(experiment, result)
    assert "| the queue is short | at most 2 ms | – |  |" in text


def test_page_without_a_result_says_so(experiment):
    text = docs.page(experiment, None)
    assert "No result is stored yet." in text
    assert "## Figures" not in text


def test_index_names_every_experiment_and_what_it_came_to(experiment, result):
    text = docs.index([(experiment, result)])
    assert "## Models" in text
    assert "| [`made-up`](made-up.md) | Which queue is <b>shorter</b>? | fails |" in text


def test_stored_result_is_small(result):
    assert len(json.dumps(result)) < 3000
    assert "trials" not in result["arms"][0]


def test_result_of_a_changed_checkout_is_not_stored(document, tmp_path):
    changed = document | {"environment": document["environment"] | {"commit": "abc1234+"}}
    with pytest.raises(ValueError, match="commit, and run it again"):
        docs.store(StoredRun(tmp_path / "20261123T220000.000-made-up", changed), tmp_path)


@pytest.mark.parametrize("change", [{"effort": "quick"}, {"control": "swapped"}])
def test_quick_runs_and_controls_are_not_stored(document, tmp_path, change):
    with pytest.raises(ValueError, match="no full run"):
        docs.store(StoredRun(tmp_path / "20261123T220000.000-made-up", document | change), tmp_path)


def test_a_page_whose_experiment_is_gone_goes_too(tmp_path):
    (tmp_path / "gone.md").write_text("old")
    docs.write(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == set(docs.pages())
