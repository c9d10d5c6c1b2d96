"""Two ways to keep what was read from the kernel: totals of things that vanish, and costly figures.

Used by the admin process's one thread only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")


class Growth:
    """The total of many counters that come and go: a closed socket or a dead task takes nothing back.

    What a counter gained between the last reading and its end is lost.
    """

    def __init__(self) -> None:
        self.total = 0
        self._last: Mapping[Hashable, int] = {}
        self._before: Mapping[Hashable, int] = {}

    def add(self, figures: Mapping[Hashable, int]) -> int:
        """Add what each counter has gained since the last reading; the total."""
        for key, now in figures.items():
            # Two readings are remembered: a dump can skip a socket when the table changes under it,
            # and forgetting it at once would count all of it again.
            then = self._last.get(key, self._before.get(key, 0))
            self.total += now - then if now >= then else now
        self._before, self._last = self._last, figures
        return self.total


class Cached(Generic[T]):
    """Result of `read`, kept for `seconds`."""

    def __init__(self, seconds: float, read: Callable[[], T]) -> None:
        self._seconds = seconds
        self._read = read
        self._value: tuple[T] | None = None
        self._until = 0.0

    def get(self) -> T:
        """Return the figure, at most `seconds` old."""
        now = time.monotonic()
        if self._value is None or now >= self._until:
            self._value = (self._read(),)
            self._until = now + self._seconds
        return self._value[0]
