"""Processor time that others took while something was measured: other programs, and other virtual machines."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
USER, NICE, SYSTEM, STEAL = 0, 1, 2, 7
"""Columns of /proc/stat. Source: proc_stat(5)."""


class ForeignCpu:
    """Looks at the processors `cpus` from its making on.

    What interrupts take is nobody's: most of it is the kernel's work on our own packets.
    """

    def __init__(self, cpus: Collection[int]) -> None:
        self._cpus = cpus
        self._begun = time.monotonic()
        self._taken_before = self._taken_seconds()
        self._orphans_seconds = 0.0

    def count_as_ours(self, seconds: float) -> None:
        """Add what processes of ours used that were not ours to wait for: their parent ended before them."""
        self._orphans_seconds += seconds

    def share(self) -> float:
        """Of these processors' time since then, what went neither to us nor to processes of ours that have ended."""
        available = (time.monotonic() - self._begun) * len(self._cpus)
        taken = self._taken_seconds() - self._taken_before - self._orphans_seconds
        return max(0.0, taken) / available

    def _taken_seconds(self) -> float:
        used, ours = _used_seconds(), os.times()
        # A container may be shown other numbers than those of its processors: then nobody is seen to take anything.
        everybody = sum(used.get(cpu, 0.0) for cpu in self._cpus)
        return everybody - ours.user - ours.system - ours.children_user - ours.children_system


def _used_seconds() -> dict[int, float]:
    """By processor: what programs used, and other virtual machines took. One that is switched off has no line."""
    used = {}
    for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
        name, *columns = line.split()
        if name.startswith("cpu") and name != "cpu":
            ticks = sum(int(columns[column]) for column in (USER, NICE, SYSTEM, STEAL))
            used[int(name.removeprefix("cpu"))] = ticks / TICKS_PER_SECOND
    return used
