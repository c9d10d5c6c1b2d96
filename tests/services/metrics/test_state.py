"""State and health of a model, as its admin process tells them over a real socket."""

import os
import subprocess
import sys
import time

import pytest

from services.metrics import slots
from services.metrics.state import STALLED_NS, activity


def test_state_says_who_listens_and_who_serves(running):
    state = running.state()
    port = running.service.getsockname()[1]
    assert state.keys() == {"model", "pid", "options", "listeners", "workers"}
    assert (state["model"], state["pid"]) == ("memcached", os.getpid())
    assert state["options"]["workers"] == 2
    assert state["listeners"] == [{"listener": 0, "address": f"127.0.0.1:{port}", "queue": 0, "limit": 5, "drops": 0}]
    assert [worker["worker"] for worker in state["workers"]] == ["0", "1"]  # the third block is in use by nobody
    assert state["workers"][0].keys() == {
        "worker", "kind", "pid", "tid", "state", "connections", "queue_depth", "requests"
    }  # fmt: skip
    assert state["workers"][0]["kind"] == "thread"


def test_state_shows_figures_as_they_change(running):
    block = running.shared.worker(1)
    block[slots.OPEN] = 4
    block[slots.HANDED_OFF], block[slots.PICKED_UP] = 9, 7
    block[slots.REQUESTS["200"]], block[slots.REQUESTS["STORED"]] = 10, 5
    worker = running.state()["workers"][1]
    assert (worker["connections"], worker["queue_depth"], worker["requests"]) == (4, 2, 15)
    running.worker(2)
    assert len(running.state()["workers"]) == 3


def test_state_where_main_has_no_workers_shows_main(admin):
    admin.start()
    (worker,) = admin.state()["workers"]
    assert (worker["worker"], worker["kind"], worker["state"]) == ("main", "process", "idle")


def test_state_follows_options_that_main_writes(running):
    running.in_force.write({"workers": 3, "assign": "least-connections"})
    assert running.state()["options"] == {"workers": 3, "assign": "least-connections"}
    assert running.metric("lab_info", workers="3") == 1


@pytest.mark.parametrize(
    ("life", "busy_for_ns", "expected"),
    [
        (slots.STARTING, 0, "starting"),
        (slots.SERVING, 0, "idle"),
        (slots.SERVING, 1000, "busy"),
        (slots.SERVING, STALLED_NS + 1000, "stalled"),
        (slots.DRAINING, 1000, "draining"),
        (slots.CRASHED, 1000, "crashed"),
        (slots.GONE, 0, "gone"),
    ],
)
def test_activity_of_a_worker(life, busy_for_ns, expected):
    block = slots.Slots(1).worker(0)
    now = time.monotonic_ns()
    block[slots.STATE] = life
    block[slots.BUSY_SINCE] = now - busy_for_ns if busy_for_ns else 0
    assert activity(block, now) == expected


def test_healthz_turns_bad_when_a_worker_crashes(running):
    assert running.ask("/healthz") == (200, "ok\n")
    running.worker(1, slots.CRASHED)
    assert running.ask("/healthz") == (503, "worker 1 crashed\n")


def test_healthz_stays_good_while_a_worker_drains_or_is_replaced(running):
    running.worker(0, slots.DRAINING)
    running.worker(1, slots.GONE)
    assert running.ask("/healthz") == (200, "ok\n")


def test_healthz_turns_bad_when_main_is_gone(admin):
    main = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    admin.main_pid = main.pid
    admin.start()
    assert admin.ask("/healthz")[0] == 200
    main.communicate(b"\n")
    assert admin.ask("/healthz") == (503, "main is gone\n")
