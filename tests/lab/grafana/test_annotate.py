"""`lab grafana annotate`, and the marks that experiments leave: what reaches Grafana, and when."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from support.fake_grafana import FakeGrafana, serve_grafana, serve_page

from lab import settings
from lab.grafana.annotate import mark, moment
from lab.grafana.api import Grafana
from lab.settings import Port, SettingError

NOW = 1_800_000_000.0
DEADLINE_SECONDS = 5


def test_moment_is_now_and_for_every_dashboard(lab, grafana):
    before = time.time()
    done = lab("annotate", "herd begins", "--tag", "nginx", "--tag", "lab")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "1\n", "")
    (made,) = grafana.annotations
    assert before <= made.pop("time") / 1000 <= time.time() + 0.001
    assert made == {"text": "herd begins", "tags": ["lab", "nginx"]}


def test_region_on_a_panel(lab, grafana):
    board = grafana.add_dashboard({"uid": "lab-compare", "title": "Compare"})["dashboard"]
    region = ["--from", "2026-01-31T14:00:00Z", "--to", "2026-01-31T14:05:00.5+00:00"]
    done = lab("annotate", "overflow", *region, "--dashboard", "lab-compare", "--panel", "3", "--json")
    start = datetime(2026, 1, 31, 14, tzinfo=UTC).timestamp()
    printed = json.loads(done.stdout)
    assert printed == {"grafana": grafana.url, "id": 1, "start": start, "end": start + 300.5, "tags": ["lab"]}
    assert grafana.annotations == [
        {
            "text": "overflow", "tags": ["lab"], "time": start * 1000, "timeEnd": start * 1000 + 300_500,
            "dashboardId": board["id"], "dashboardUID": "lab-compare", "panelId": 3,
        }
    ]  # fmt: skip


def test_dashboard_is_named_to_old_grafanas_too(lab, grafana):
    grafana.version = "9.0.9"  # does not know dashboardUID yet
    board = grafana.add_dashboard({"uid": "lab-compare", "title": "Compare"})["dashboard"]
    lab("annotate", "text", "--dashboard", "lab-compare")
    assert grafana.annotations[0]["dashboardId"] == board["id"]


def test_dashboard_that_is_not_there_is_refused(lab, grafana):
    done = lab("annotate", "text", "--dashboard", "lab-comprae")
    assert done.exit_code == 2
    assert "lab-comprae" in done.stderr
    assert grafana.writes == []


def test_viewer_is_told_which_role_is_needed(lab, grafana):
    grafana.tokens = {"secret": "Viewer"}
    done = lab("annotate", "text")
    assert done.exit_code == 2
    assert "Editor role" in done.stderr
    assert "annotations:create" in done.stderr


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (["  "], "empty"),
        (["text", "--panel", "1"], "--dashboard"),
        (["text", "--from", "yesterday"], "'yesterday' is no time"),
        (["text", "--from", "-5m", "--to", "-6m"], "swap"),
        (["text", "--from", "1800000000000"], "seconds"),
    ],
)
def test_wrong_argument_is_refused_before_grafana_is_asked(lab, grafana, wrong, word):
    done = lab("annotate", *wrong)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert word in done.stderr
    assert grafana.requests == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("now", NOW),
        ("-90s", NOW - 90),
        ("-5m", NOW - 300),
        ("+1.5h", NOW + 5400),
        ("-1d", NOW - 86400),
        ("1770000000.25", 1770000000.25),
        ("2027-01-15T08:00:00Z", NOW),
        ("2027-01-15T09:00+01:00", NOW),
        ("20270115T080000Z", NOW),
        ("2027-01-15", datetime(2027, 1, 15).timestamp()),
        ("20270115", datetime(2027, 1, 15).timestamp()),
    ],
)
def test_moment_is_read(text, seconds):
    assert moment(text, NOW) == seconds


@pytest.mark.parametrize(
    "text", ["", "-5", "5m", "-m", "-1e3s", "²", "1800000000000", "inf", "2026-13-01", "0000-01-01"]
)
def test_moment_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="is no time"):
        moment(text, NOW)


def test_annotation_needs_no_command(grafana):
    assert Grafana.from_settings().annotate("overflow", ["nginx"], NOW, NOW + 5) == 1
    assert grafana.annotations == [{"text": "overflow", "tags": ["nginx"], "time": 1.8e12, "timeEnd": 1.8e12 + 5000}]


def test_mark_of_an_experiment_gets_its_id(grafana, monkeypatch):
    monkeypatch.setattr("lab.grafana.annotate.MARK_SECONDS", 10)
    assert mark("run 1", ["herd"], NOW) == 1
    assert grafana.annotations[0]["tags"] == ["lab", "herd"]


def test_mark_reaches_the_grafana_of_composes_network(monkeypatch):
    """By the name that it has there, and at its own port; the one published is for browsers."""
    with serve_grafana(FakeGrafana(anonymous="Editor")) as grafana:
        own = int(grafana.url.rpartition(":")[2])
        monkeypatch.setattr(settings, "GRAFANA", Port("grafana", default=own))
        monkeypatch.setenv("LAB_GRAFANA_HOST", "localhost")
        monkeypatch.setenv("LAB_GRAFANA_PORT", "9")
        assert mark("run 1", ["herd"], NOW, NOW + 5) == 1
    assert grafana.annotations[0]["tags"] == ["lab", "herd"]


def test_mark_without_a_grafana_is_silent(monkeypatch, capfd):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("LAB_GRAFANA_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
        assert mark("run 1") is None
    with serve_page(b"<html>") as other:
        monkeypatch.setenv("LAB_GRAFANA_URL", other)
        assert mark("run 1") is None
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def dripping():
    """The URL of a server that never gets to its answer's end: one byte at a time keeps a read's timeout from passing."""
    done = threading.Event()

    def drip(listener: socket.socket) -> None:
        client, _ = listener.accept()
        with client, suppress(OSError):
            client.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while not done.wait(0.05):
                client.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        done.set()
        thread.join()


def test_mark_does_not_wait_for_an_answer_that_never_ends(monkeypatch, dripping):
    monkeypatch.setenv("LAB_GRAFANA_URL", dripping)
    before = time.monotonic()
    assert mark("run 1") is None
    assert time.monotonic() - before < DEADLINE_SECONDS


def test_mark_says_when_a_variable_is_wrong(monkeypatch):
    monkeypatch.setenv("LAB_GRAFANA_URL", "localhost:3000")
    with pytest.raises(SettingError, match="LAB_GRAFANA_URL"):
        mark("run 1")
