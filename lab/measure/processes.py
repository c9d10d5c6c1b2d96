"""What a server costs: processor time and memory of a process and all its descendants."""

from __future__ import annotations

import time
from pathlib import Path

import psutil

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
