"""A process, or one thread of it, stands still, and goes on afterwards."""

import os
import select
import subprocess
import sys

import pytest

from lab.peers import standstill

TICKS = """
import os, sys, threading, time
def tick(descriptor):
    while True:
        os.write(descriptor, b".")
        time.sleep(0.005)
threading.Thread(target=tick, args=(int(sys.argv[1]),), daemon=True).start()
print([int(name) for name in os.listdir("/proc/self/task") if int(name) != os.getpid()][0], flush=True)
tick(int(sys.argv[2]))
"""


@pytest.fixture
def ticking():
    """A process of two threads, each of which writes into a pipe of its own: process, other thread's id, both pipes."""
    pipes = [os.pipe() for _ in range(2)]
    words = [sys.executable, "-c", TICKS, *(str(end) for _, end in pipes)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, pass_fds=[end for _, end in pipes])
    yield process, int(process.stdout.readline()), *(begin for begin, _ in pipes)
    process.kill()
    process.wait()
    process.stdout.close()
    for ends in pipes:
        for end in ends:
            os.close(end)


def ticks(pipe, seconds):
    """Return True if anything is written, from now on."""
    os.set_blocking(pipe, False)
    try:
        while os.read(pipe, 65536):
            pass
    except BlockingIOError:
        return bool(select.select([pipe], [], [], seconds)[0])


def test_one_thread_stands_still_and_its_neighbour_goes_on(ticking):
    _, tid, of_thread, of_main = ticking
    with standstill.stopped_thread(tid):
        assert not ticks(of_thread, 0.3)
        assert ticks(of_main, 10)
    assert ticks(of_thread, 10)


def test_whole_process_stands_still(ticking):
    process, _, of_thread, of_main = ticking
    with standstill.stopped([process.pid]):
        assert not ticks(of_thread, 0.3)
        assert not ticks(of_main, 0.3)
    assert ticks(of_thread, 10)


def test_thread_that_there_is_not_is_an_error():
    with pytest.raises(OSError, match="ptrace of thread"), standstill.stopped_thread(2**22 + 1):
        pytest.fail("it stood still")
