"""A run: what is left out, what the sandbox says, and the document that is kept."""

import json

import pytest

from lab.fidelity import run as comparing
from lab.fidelity.reals import KINDS as REALS
from lab.fidelity.rows import ROWS
from lab.results import run_in


@pytest.fixture
def said(monkeypatch, tmp_path):
    """Runs a comparison in which the sandbox says what is given for each row, in a folder of its own."""
    monkeypatch.setattr(comparing, "RESULTS", tmp_path)
    monkeypatch.setattr(comparing.outside, "working_form", tuple)

    def compare(line, installed=("memcached",), **options):
        for name, kind in REALS.items():
            monkeypatch.setattr(kind, "available", lambda name=name: "1.0" if name in installed else None)
        monkeypatch.setattr(comparing, "_said", lambda command, folder: [line(int(word)) for word in command[4:]])
        return comparing.run(**{"quick": False, "progress": lambda share, doing: None, **options})

    return compare


def agreeing(number):
    return {"row": number, "model": [1.0], "real": [1.0], "wrong": [9.0] if ROWS[number].wrong else [], "others": 0.0}


def test_systems_that_are_missing_are_named_and_left_out(said):
    _, document = said(agreeing)
    assert document["peers"] == {"memcached": "1.0"}
    assert document["missing"]["redis"] == "apt-get install redis-server"
    assert {row["system"] for row in document["rows"]} == {"memcached"}
    assert document["unexplained"] == []


def test_document_is_kept_as_a_run_of_its_kind(said):
    folder, document = said(agreeing)
    assert run_in(folder).kind == "fidelity"
    assert json.loads((folder / "result.json").read_text()) == document
    assert {"signature", "model", "model_value", "real", "real_value", "tolerance", "agrees", "why"} <= document[
        "rows"
    ][0].keys()
    assert document["environment"]["cpus"] > 0


def test_quick_form_has_the_quick_rows(said):
    _, document = said(agreeing, quick=True)
    assert len(document["rows"]) == sum(row.quick and row.real.name == "memcached" for row in ROWS)
    assert document["command"] == "lab fidelity --quick"


def test_row_that_could_not_be_measured_is_named(said):
    _, document = said(lambda number: {"row": number, "error": "PeerError: it did not start"})
    assert document["rows"] == []
    assert all(line.endswith("it did not start") for line in document["failed"])


def test_only_some_systems(said):
    _, document = said(agreeing, installed=("memcached", "nginx"), only=["nginx"])
    assert {row["system"] for row in document["rows"]} == {"nginx"}
    assert document["command"] == "lab fidelity --only nginx"


def test_nothing_installed_is_refused(said):
    with pytest.raises(comparing.RunError, match="make peers"):
        said(agreeing, installed=())


def test_sandbox_that_breaks_off_is_reported_with_its_last_words(tmp_path):
    with pytest.raises(comparing.RunError, match="ended with 7: no such thing"):
        list(comparing._said(["sh", "-c", "echo no such thing >&2; exit 7"], tmp_path))
