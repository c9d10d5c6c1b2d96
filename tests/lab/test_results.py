"""The folder of runs: finding them, and the bound on it."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta

import pytest

from lab import results
from lab.records import EXPERIMENT
from lab.settings import SettingError

BEGUN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    monkeypatch.delenv(results.KEEP, raising=False)


def stored(number, **document):
    folder = results.new_folder("load-nodejs", BEGUN + timedelta(seconds=number))
    results.write(folder, {"schema": 2, "kind": "load", **document})
    return folder.name


def left():
    return [run.name for run in results.runs()]


def run_of(name, text='{"experiment": "made-up", "arms": []}'):
    folder = results.RESULTS / name
    folder.mkdir(parents=True)
    (folder / results.RESULT).write_text(text)
    return folder


def test_oldest_first():
    run_of("20261123T230000.000-made-up")
    run_of("20261123T220000.000-made-up")
    assert [run.name[:13] for run in results.runs()] == ["20261123T2200", "20261123T2300"]


def test_no_folder_no_runs():
    assert results.runs() == []


def test_named_by_folder_by_its_beginning_by_path_and_by_experiment(tmp_path):
    first = run_of("20261123T220000.000-made-up")
    run_of("20261123T230000.000-made-up")
    for name in (first.name, "20261123T22", f"{first}/"):
        assert results.named(name).name == "20261123T220000.000-made-up"
    assert results.named("made-up").name == "20261123T230000.000-made-up"
    elsewhere = first.rename(tmp_path / "kept")
    assert results.named(elsewhere).folder == elsewhere


@pytest.mark.parametrize("name", ["other", "", "/"])
def test_no_such_run(name):
    run_of("20261123T220000.000-made-up")
    with pytest.raises(results.ResultsError, match="lab results list"):
        results.named(name)


@pytest.mark.parametrize("text", ["", '{"experiment": ', "[]"])
def test_half_a_result_is_none(text):
    run_of("20261123T220000.000-made-up", text)
    (run,) = results.runs()
    assert run.document is None
    assert (run.experiment, run.held) == ("made-up", 0)
    assert f"{run.begun:%H:%M}" == "22:00"
    with pytest.raises(results.ResultsError, match="has no result"):
        results.load_run(run.name)


def test_oldest_runs_go_first():
    names = [stored(number) for number in range(5)]
    assert results.prune(2) == names[:3]
    assert left() == names[3:]


def test_pinned_runs_stay_and_count():
    names = [stored(number) for number in range(4)]
    results.pin(names[0])
    assert results.prune(2) == names[1:3]
    assert left() == [names[0], names[3]]
    results.pin(names[0], pinned=False)
    assert results.prune(1) == [names[0]]


def test_runs_that_are_too_large_together_go(tmp_path):
    names = [stored(number) for number in range(3)]
    (results.RESULTS / names[0] / "log").write_bytes(b"x" * 1000)
    assert results.prune(keep_bytes=1000) == names[:1]


def test_run_that_has_not_ended_stays_and_one_that_was_interrupted_goes():
    going, broken = (results.new_folder(name, BEGUN) for name in ("going", "broken"))
    long_ago = time.time() - 2 * results.UNFINISHED_SECONDS
    os.utime(broken, (long_ago, long_ago))
    assert results.prune(0) == [broken.name]
    assert left() == [going.name]


def test_variable_says_how_many(monkeypatch):
    names = [stored(number) for number in range(3)]
    monkeypatch.setenv(results.KEEP, "2")
    assert results.prune() == names[:1]


@pytest.mark.parametrize("text", ["0", "many", "-1"])
def test_wrong_number_is_refused(monkeypatch, text):
    monkeypatch.setenv(results.KEEP, text)
    with pytest.raises(SettingError, match=results.KEEP):
        results.prune()


def test_dry_run_removes_nothing():
    names = [stored(number) for number in range(2)]
    assert results.prune(1, dry_run=True) == names[:1]
    assert left() == names


def test_two_runs_of_one_millisecond_get_two_folders():
    assert len({results.new_folder("herd", BEGUN), results.new_folder("herd", BEGUN)}) == 2


def test_document_without_a_schema_is_of_schema_1():
    folder = results.new_folder("herd", BEGUN)
    results.write(folder, {"experiment": "herd", "arms": []})
    assert results.load_run(folder.name)["experiment"] == "herd"
    assert results.runs()[0].kind == EXPERIMENT
