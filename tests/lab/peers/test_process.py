"""A server's end: what it leaves behind goes with it, and at once."""

import signal
import subprocess
import time
from contextlib import suppress

import psutil

from lab.peers.process import die_with, launched


def test_children_left_behind_are_ended(tmp_path):
    with launched(["sh", "-c", "sleep 600 & echo $!; wait"], tmp_path, None) as process:
        while not (text := (tmp_path / "stdout").read_text()):
            assert process.poll() is None
            time.sleep(0.01)
        child = psutil.Process(int(text))
    with suppress(psutil.NoSuchProcess):  # process 1 has buried it
        assert child.status() == psutil.STATUS_ZOMBIE


def test_child_whose_parent_is_gone_already_ends_at_once(tmp_path):
    """As if it had died between fork and the request to the kernel."""
    with (tmp_path / "out").open("wb") as output:
        late = subprocess.Popen(["echo", "lives"], stdout=output, preexec_fn=lambda: die_with(1, signal.SIGKILL))
    assert late.wait(5) == 1
    assert (tmp_path / "out").read_text() == ""


def test_leader_that_ignores_sigterm_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("lab.peers.process.STOP_SECONDS", 0.2)
    with launched(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"], tmp_path, None) as process:
        while not (tmp_path / "stdout").read_text():
            time.sleep(0.01)
    assert process.returncode == -signal.SIGKILL
