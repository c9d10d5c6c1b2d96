"""What others took of the processors while something was measured: other programs, and other virtual machines."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Collection


class Others:
    """Looks at the processors `cpus` from its making on.

    What interrupts take is nobody's: most of it is the kernel's work on our own packets.
    """

    def __init__(self, cpus: Collection[int]) -> None:
        self._cpus = cpus
        self._begun = time.monotonic()
        self._taken_before = self._taken_seconds()

    def share(self) -> float:
        """Of these processors' time since then, what went neither to us nor to processes of ours that have ended."""
        available = (time.monotonic() - self._begun) * len(self._cpus)
        return max(0.0, self._taken_seconds() - self._taken_before) / available

    def _taken_seconds(self) -> float:
        times = psutil.cpu_times(percpu=True)
        everybody = sum(times[cpu].user + times[cpu].nice + times[cpu].system + times[cpu].steal for cpu in self._cpus)
        ours = os.times()
        return everybody - ours.user - ours.system - ours.children_user - ours.children_system
