"""Have a process, or one thread of it, stand still for a while, as if it were blocked in a long computation.

A process is stopped by SIGSTOP. That stops all its threads, so a single thread is stopped as a debugger does it, by
ptrace(2): PTRACE_SEIZE and PTRACE_INTERRUPT. Of descendants it may be asked without any right (Yama's ptrace_scope 1).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
STOP_SECONDS, POLL_SECONDS = 5.0, 0.002
WALL = 0x40000000
"""__WALL: wait for threads, too. Source: waitpid(2)."""
LIBC = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def stopped(pids: Sequence[int]) -> Iterator[None]:
    """These processes stand still meanwhile."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + STOP_SECONDS
    try:
        while not all(map(_stands_still, pids)) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def stopped_thread(tid: int) -> Iterator[None]:
    """This thread stands still meanwhile; the others of its process run on. Raises OSError where ptrace is forbidden.

    Called, with its end, by one thread: the kernel obeys nobody but the one that seized.
    """
    _ptrace(PTRACE_SEIZE, tid)
    try:
        _ptrace(PTRACE_INTERRUPT, tid)
        os.waitpid(tid, WALL)
        yield
    finally:
        with contextlib.suppress(OSError):
            _ptrace(PTRACE_DETACH, tid)


def _stands_still(pid: int) -> bool:
    """Every thread has seen the signal: state T, or t where it is traced. Source: proc_pid_stat(5)."""
    states = (file.read_text(encoding="ascii").rpartition(")")[2].split()[0] for file in _stats(pid))
    return all(state in "TtZX" for state in states)


def _stats(pid: int) -> Iterator[Path]:
    return Path(f"/proc/{pid}/task").glob("*/stat")


def _ptrace(request: int, tid: int) -> None:
    if LIBC.ptrace(ctypes.c_long(request), ctypes.c_long(tid), None, None):
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace of thread {tid}: {os.strerror(number)}")
