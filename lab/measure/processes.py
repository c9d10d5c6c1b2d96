"""Costs of a server: processor time and memory of a process and all its descendants."""

from __future__ import annotations

import time
from pathlib import Path

import psutil

LOOK_SECONDS = 0.0005
CPUCLOCK_SCHED = 2
"""linux/posix-timers.h: which of a process's clocks; its number is in the bits above."""


def tree(pid: int) -> list[int]:
    """`pid` and its descendants that live now, `pid` first. Raises ProcessLookupError without it."""
    try:
        process = psutil.Process(pid)
        return [pid, *(child.pid for child in process.children(recursive=True))]
    except psutil.NoSuchProcess:
        raise ProcessLookupError(f"process {pid} is gone") from None


def cpu_seconds(pids: list[int]) -> float:
    """Processor time that `pids` have used, user and kernel, all threads. A process that is gone counts 0."""
    return sum(map(_cpu_seconds, pids))


def pss_bytes(pids: list[int]) -> int:
    """Proportional set size: a page shared by n processes counts 1/n to each, so the sum is real memory."""
    return sum(_rolled_up(pid, "Pss:") for pid in pids)


def uss_bytes(pids: list[int]) -> int:
    """Unique set size: what each has to itself, and what would be free if it ended."""
    return sum(_rolled_up(pid, "Private_") for pid in pids)


def wait_until_asleep(pids: list[int], most_seconds: float) -> bool:
    """Return when every thread of these processes waits for something; False where that takes longer."""
    deadline = time.monotonic() + most_seconds
    while not all(map(_is_asleep, pids)):
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_SECONDS)
    return True


def _is_asleep(pid: int) -> bool:
    """Every thread is in interruptible sleep, state S. Source: proc_pid_stat(5)."""
    lines = (file.read_text(encoding="ascii") for file in Path(f"/proc/{pid}/task").glob("*/stat"))
    return all(line.rpartition(")")[2].split()[0] == "S" for line in lines)


def _cpu_seconds(pid: int) -> float:
    # The clock that Linux has for every process: in ns, where /proc/PID/stat has ticks of 10 ms.
    try:
        return time.clock_gettime(~pid << 3 | CPUCLOCK_SCHED)
    except OSError:
        return 0.0


def _rolled_up(pid: int, names: str) -> int:
    """The lines of smaps_rollup whose names begin so, in bytes. A process that is gone counts 0."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith(names))
