"""Only processes with this stack's mark are ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

from lab.stack import leftovers, parts

SLEEP = [sys.executable, "-c", "print(flush=True); import time; time.sleep(60)"]
DEAF = [
    sys.executable, "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)",
]  # fmt: skip


@pytest.fixture
def start(state_dir, tmp_path):
    """Start a process of a stack whose state folder is `tmp_path`, or of another."""
    state_dir(tmp_path)
    started = []

    def start(command: list[str] = SLEEP, stack: object = tmp_path, **variables: str) -> psutil.Process:
        environment = {**os.environ, parts.MARK: str(stack), **variables}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
        started.append(process)
        process.stdout.readline()  # it runs now, with its handlers set
        return psutil.Process(process.pid)

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_ours_are_those_with_the_mark_of_this_stack(start, tmp_path):
    mine = start(SUPERVISOR_PROCESS_NAME="nginx")
    start(stack=tmp_path / "another")
    assert leftovers.ours() == [mine]
    assert leftovers.part_of(mine) == "nginx"


def test_ours_begin_with_supervisord(start):
    part = start(SUPERVISOR_PROCESS_NAME="nginx")
    supervisord = start()
    assert leftovers.ours() == [supervisord, part]


def test_ours_spare_whoever_asks(start, monkeypatch):
    """A `lab down` from within a part of the stack does not end itself."""
    code = "from lab.stack import leftovers; print(len(leftovers.ours()))"
    environment = {**os.environ, parts.MARK: str(parts.STATE_DIR), "LAB_STATE_DIR": str(parts.STATE_DIR)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == "0", done.stderr


def test_end_ends_ours_and_no_other(start, tmp_path):
    mine = [start(), start(SUPERVISOR_PROCESS_NAME="nginx")]
    other = start(stack=tmp_path / "another")
    assert leftovers.end() == ["ended 2 processes that had lost their supervisord"]
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in mine)
    assert other.status() != psutil.STATUS_ZOMBIE


def test_end_kills_what_does_not_listen(start, monkeypatch):
    monkeypatch.setattr(leftovers, "END_SECONDS", 0.5)
    deaf = start(DEAF, SUPERVISOR_PROCESS_NAME="nginx")
    leftovers.end()
    assert deaf.wait(timeout=10) in {-signal.SIGKILL, None}


def test_end_removes_sockets_and_says_so(start, tmp_path):
    left = tmp_path / "models" / "nginx" / "control.sock"
    left.parent.mkdir(parents=True)
    left.touch()
    assert leftovers.end() == [f"removed {left}"]
    assert not left.exists()


def test_recover_does_nothing_when_nothing_is_left(start):
    assert leftovers.recover() == []
