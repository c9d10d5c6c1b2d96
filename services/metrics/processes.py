"""CPU time, context switches and memory of the main process and its workers, from /proc.

A thread worker is one task of main's process; a process worker is all tasks of its own process, and
`main` is every task of main's process that is no worker. So the sum over `worker` is the whole model.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from services.metrics.readings import Cached, Growth

MEMORY_FRESH_SECONDS = 5.0
MEMORY_KINDS = ("pss", "uss", "rss")
NANOSECONDS_A_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
UTIME, STIME = 11, 12
"""Fields of /proc/<pid>/stat, counted from behind the name in parentheses."""


@dataclass(frozen=True, slots=True)
class TaskFigures:
    """One thread, since it began."""

    cpu_ns: int
    voluntary: int
    involuntary: int


def tasks(pid: int) -> frozenset[int]:
    """Return the thread ids of a process; none if it is gone."""
    try:
        return frozenset(int(name) for name in os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208
    except OSError:
        return frozenset()


def task_figures(pid: int, tid: int) -> TaskFigures | None:
    """Return the kernel's counts for one thread; None if it is gone."""
    folder = Path(f"/proc/{pid}/task/{tid}")
    try:
        status = (folder / "status").read_text()
        return TaskFigures(
            cpu_ns=_cpu_ns(folder),
            voluntary=_number_after(status, "\nvoluntary_ctxt_switches:"),
            involuntary=_number_after(status, "\nnonvoluntary_ctxt_switches:"),
        )
    except OSError:
        return None


def _cpu_ns(task: Path) -> int:
    try:
        return int((task / "schedstat").read_text().split()[0])
    except FileNotFoundError:  # a kernel without CONFIG_SCHED_INFO: clock ticks, usually of 10 ms
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[UTIME]) + int(fields[STIME])) * NANOSECONDS_A_TICK


def _number_after(text: str, label: str) -> int:
    words = text.partition(label)[2].split(maxsplit=1)
    return int(words[0]) if words else 0


class Usage:
    """Usage of one worker since the model started, its predecessors under that number included."""

    def __init__(self) -> None:
        self._cpu = Growth()
        self._voluntary = Growth()
        self._involuntary = Growth()

    def read(self, pid: int, tids: Iterable[int]) -> None:
        """Add what these tasks have used since the last call."""
        found: dict[Hashable, TaskFigures] = {}
        for tid in tids:
            figures = task_figures(pid, tid)
            if figures is not None:
                found[tid] = figures
        self._cpu.add({tid: figures.cpu_ns for tid, figures in found.items()})
        self._voluntary.add({tid: figures.voluntary for tid, figures in found.items()})
        self._involuntary.add({tid: figures.involuntary for tid, figures in found.items()})

    @property
    def cpu_seconds(self) -> float:
        """CPU time, in user space and in the kernel."""
        return self._cpu.total / 1e9

    @property
    def context_switches(self) -> dict[str, int]:
        """By kind: gave the CPU up to wait, or had it taken away."""
        return {"voluntary": self._voluntary.total, "involuntary": self._involuntary.total}


class Memory:
    """The memory of processes, read at most every few seconds: the kernel walks every page for it."""

    def __init__(self) -> None:
        self._cached: dict[int, Cached[dict[str, int]]] = {}

    def figures(self, pids: Collection[int]) -> dict[int, dict[str, int]]:
        """Bytes by kind for each process, at most MEMORY_FRESH_SECONDS old."""
        self._cached = {
            pid: self._cached.get(pid) or Cached(MEMORY_FRESH_SECONDS, partial(memory_bytes, pid)) for pid in pids
        }
        return {pid: cached.get() for pid, cached in self._cached.items()}


def memory_bytes(pid: int) -> dict[str, int]:
    """Bytes by kind: pss shares shared pages out, uss leaves them out, rss counts them in full.

    0 for a process that is gone or that another user owns.
    """
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return dict.fromkeys(MEMORY_KINDS, 0)
    kib = {words[0]: int(words[1]) for words in map(str.split, rollup.splitlines()[1:])}
    return {
        "pss": kib["Pss:"] * 1024,
        "uss": (kib["Private_Clean:"] + kib["Private_Dirty:"]) * 1024,
        "rss": kib["Rss:"] * 1024,
    }


def is_alive(pid: int) -> bool:
    """Return whether the process exists and is not just waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
