"""A server that stops responding: requests without a response are counted, and are failures."""

from __future__ import annotations

import json
import signal
import threading

import pytest

from lab import results
from lab.load import locust
from lab.load.result import FAILURES, GOOD, SATURATED_EXIT
from lab.report import page
from loadtests.options import STOP_SECONDS

USERS = 4


def make(seconds):
    return locust.make(locust.Load(("nodejs",), users=USERS, rate=50.0, seconds=seconds), pages=page.write_with_index)


def repeat():
    (run,) = results.runs()
    (found,) = run.document["repeats"]
    return found


def pages(kept):
    return next(kept.glob("*/report.html")).read_text()


def test_server_paused_before_the_load(model, kept, capsys):
    server = model("nodejs")
    server.process.send_signal(signal.SIGSTOP)
    assert make(2) == FAILURES
    assert f"{USERS} requests had no response at the end" in capsys.readouterr().out
    found = repeat()
    assert (found["requests"], found["no_response"], found["failures"]) == (0, USERS, USERS)
    assert f"{USERS} requests had no response at the end" in pages(kept)


def test_server_paused_half_way(model, kept, capsys):
    server = model("nodejs")
    pause = threading.Timer(3.5, server.process.send_signal, [signal.SIGSTOP])
    pause.start()
    assert make(5) == FAILURES
    pause.join()
    assert f"{USERS} requests had no response at the end" in capsys.readouterr().out
    found = repeat()
    assert found["no_response"] == USERS
    assert found["requests"] > 0
    # A rate over all the time, not only until the last response.
    assert found["seconds"] > 4 + STOP_SECONDS - 1
    assert sum(each["requests"] for each in found["series"]) == found["requests"]
    assert found["series"][-1]["requests"] == 0


@pytest.mark.parametrize("think", ["0", "0.001", "0.01"])
def test_server_that_responds_leaves_none_without(model, think):
    model("nodejs")
    asked = locust.Load(("nodejs",), users=30, rate=100.0, seconds=2, extra=("--think", think))
    assert locust.make(asked, pages=page.write_with_index) in {GOOD, SATURATED_EXIT}
    found = repeat()
    assert (found["failures"], found["no_response"]) == (0, 0)
    assert json.dumps(found)
