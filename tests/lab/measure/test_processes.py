"""Processor time and memory of process trees."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from lab.measure import processes


@pytest.fixture
def parent_and_child():
    code = "import os, time; os.fork(); os.write(1, b'up\\n'); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert [process.stdout.readline() for _ in range(2)] == ["up\n"] * 2
        pids = processes.tree(process.pid)
        yield pids
        for pid in pids:
            os.kill(pid, 9)


def test_tree_holds_the_children(parent_and_child):
    assert len(parent_and_child) == 2


def test_pss_of_a_tree_is_the_sum(parent_and_child):
    parts = [processes.pss_bytes([pid]) for pid in parent_and_child]
    assert all(part > 100_000 for part in parts)
    assert processes.pss_bytes(parent_and_child) == pytest.approx(sum(parts), rel=0.1)


def test_uss_is_what_nobody_shares(parent_and_child):
    assert 0 < processes.uss_bytes(parent_and_child) < processes.pss_bytes(parent_and_child)


def test_cpu_seconds_grow_with_work():
    before, ended = processes.cpu_seconds([os.getpid()]), time.process_time() + 0.1
    while time.process_time() < ended:
        pass
    assert processes.cpu_seconds([os.getpid()]) - before >= 0.08


def test_cpu_seconds_of_a_child_are_its_own(parent_and_child):
    parent, child = (processes.cpu_seconds([pid]) for pid in parent_and_child)
    assert 0 < child < parent  # which also started the interpreter
    assert processes.cpu_seconds(parent_and_child) >= parent + child


def test_a_process_that_is_gone():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    assert processes.cpu_seconds([process.pid]) == processes.pss_bytes([process.pid]) == 0
    with pytest.raises(ProcessLookupError):
        processes.tree(process.pid)


def test_sleeping_processes_are_told_from_those_at_work(parent_and_child):
    assert processes.wait_until_asleep(parent_and_child, 10)
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        assert not processes.wait_until_asleep([*parent_and_child, busy.pid], 0.3)
        busy.kill()
