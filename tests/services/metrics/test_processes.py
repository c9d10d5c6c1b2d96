"""CPU, context switches and memory against this very process and its children."""

import os
import signal
import threading
import time

import pytest

from lab.peers.process import die_with
from services.metrics import processes
from services.metrics.processes import Memory, Usage, is_alive, memory_bytes, task_figures, tasks

GONE = 2**22 + 1
"""Above every process id that Linux gives."""


def burn(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@pytest.fixture
def child():
    """A process that sleeps."""
    parent, pid = os.getpid(), os.fork()
    if not pid:
        die_with(parent, signal.SIGKILL)  # the lock of tests that are killed, which it has inherited, would live on
        time.sleep(60)
        os._exit(0)
    yield pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_tasks_are_the_threads():
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    assert {os.getpid(), thread.native_id} <= tasks(os.getpid())
    done.set()
    thread.join()


def test_task_figures_count_the_cpu_of_one_thread():
    tid = threading.get_native_id()
    before, clock = task_figures(os.getpid(), tid), time.thread_time()
    burn(0.1)
    gained = (task_figures(os.getpid(), tid).cpu_ns - before.cpu_ns) / 1e9
    assert 0.08 <= gained <= time.thread_time() - clock + 0.02  # updated at least once a jiffy


def test_task_figures_without_schedstat_come_in_clock_ticks(tmp_path):
    (tmp_path / "stat").write_text("7 (a) name) S 1 7 7 0 -1 0 0 0 0 0 12 5 0 0 20 0 1 0 0")
    assert processes._cpu_ns(tmp_path) == 17 * processes.NANOSECONDS_A_TICK


def test_task_figures_count_sleeping_as_voluntary_switches():
    before = task_figures(os.getpid(), threading.get_native_id())
    for _ in range(20):
        time.sleep(0.001)
    after = task_figures(os.getpid(), threading.get_native_id())
    assert after.voluntary - before.voluntary >= 15  # on a busy machine a sleep may be over before it began
    assert after.involuntary >= before.involuntary


def test_task_figures_of_one_that_is_gone_are_none():
    assert task_figures(GONE, GONE) is None
    assert tasks(GONE) == frozenset()


def test_usage_goes_on_where_a_dead_predecessor_ended():
    usage = Usage()
    usage.read(os.getpid(), [threading.get_native_id()])
    before = usage.cpu_seconds
    assert before > 0
    usage.read(GONE, tasks(GONE))
    assert usage.cpu_seconds == before


def test_usage_tells_the_kinds_of_context_switches_apart():
    usage = Usage()
    usage.read(os.getpid(), [threading.get_native_id()])
    before = usage.context_switches
    for _ in range(300):
        time.sleep(0.0001)
    usage.read(os.getpid(), [threading.get_native_id()])
    gained = {kind: number - before[kind] for kind, number in usage.context_switches.items()}
    assert gained["voluntary"] > 200 > gained["involuntary"]


def test_memory_of_a_process_shares_less_than_it_maps():
    figures = memory_bytes(os.getpid())
    assert 0 < figures["uss"] <= figures["pss"] <= figures["rss"]


def test_memory_of_a_process_that_is_gone_is_0():
    assert memory_bytes(GONE) == {"pss": 0, "uss": 0, "rss": 0}


def test_memory_is_read_once_in_a_while_and_anew_for_another_process(child):
    memory = Memory()
    first = memory.figures([os.getpid()])[os.getpid()]
    both = memory.figures([os.getpid(), child])
    assert both[os.getpid()] is first
    assert both[child]["rss"] > 0
    assert memory.figures([child]).keys() == {child}


def test_is_alive_is_false_for_a_process_that_waits_to_be_reaped():
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(pid)
    os.waitpid(pid, 0)
    assert not is_alive(pid)
    assert is_alive(os.getpid())
