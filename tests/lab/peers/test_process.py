"""A server's end: what it leaves behind goes with it, and at once."""

import ctypes
import os
import signal
import time

import pytest

from lab.peers.process import STOP_SECONDS, launched

PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture
def as_process_1():
    """As in a sandbox: we inherit the children of processes that end."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    yield
    libc.prctl(PR_SET_CHILD_SUBREAPER, 0)


def test_children_left_behind_are_ended_and_waited_for(tmp_path, as_process_1):
    with launched(["sh", "-c", "sleep 600 & echo $!; wait"], tmp_path, None) as process:
        while not (text := (tmp_path / "stdout").read_text()):
            assert process.poll() is None
            time.sleep(0.01)
        begun = time.monotonic()
    assert time.monotonic() - begun < STOP_SECONDS / 2
    with pytest.raises(ProcessLookupError):
        os.kill(int(text), 0)


def test_leader_that_ignores_sigterm_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("lab.peers.process.STOP_SECONDS", 0.2)
    with launched(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"], tmp_path, None) as process:
        while not (tmp_path / "stdout").read_text():
            time.sleep(0.01)
    assert process.returncode == -signal.SIGKILL
