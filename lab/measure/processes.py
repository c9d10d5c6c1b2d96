"""What a server costs: processor time and memory of a process and all its descendants."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """`pid` and its descendants that live now, `pid` first. Raises ProcessLookupError without it."""
    try:
        process = psutil.Process(pid)
        return [pid, *(child.pid for child in process.children(recursive=True))]
    except psutil.NoSuchProcess:
        raise ProcessLookupError(f"process {pid} is gone") from None


def cpu_seconds(pids: list[int]) -> float:
    """Processor time that `pids` have used, user and kernel, all threads. A process that is gone counts 0."""
    return sum(_cpu_ticks(pid) for pid in pids) / TICKS_PER_SECOND


def pss_bytes(pids: list[int]) -> int:
    """Proportional set size: a page shared by n processes counts 1/n to each, so the sum is real memory."""
    return sum(_pss(pid) for pid in pids)


def _cpu_ticks(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    # The command's name, in brackets, may hold spaces and brackets; what counts follows the last one.
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _pss(pid: int) -> int:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    return next(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))
