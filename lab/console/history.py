"""The last quarter of an hour, in memory: what the page's charts show.

Only the latest readings are kept whole; of the others, the few figures that are drawn. A thread samples, so
that a model that does not answer holds up neither the page nor the others.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab import top

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lab.top.readings import Reading
    from lab.top.samples import Source

INTERVAL_SECONDS = 0.5
KEPT_SECONDS = 15 * 60

SERIES: dict[str, Callable[[Reading], float | None]] = {
    "requests": lambda reading: reading.requests_per_second,
    "accept_queue": lambda reading: float(reading.fullest_queue.length),
    "drops": lambda reading: reading.drops_per_second,
    "p99": lambda reading: _p99(reading),
}
"""What is kept of a reading, by name."""


def _p99(reading: Reading) -> float | None:
    """Of what a request waits for and is served in: the stages' p99 added up, which is not below that of the whole."""
    shown = [stage.p99 for stage in reading.stages.values() if stage is not None]
    return sum(shown) if shown else None


@dataclass(frozen=True, slots=True)
class Moment:
    """The figures of all models at one time."""

    at: float
    """Seconds since the epoch."""
    figures: dict[str, tuple[float | None, ...]]
    """model → one figure for each of `SERIES`."""


class History:
    """Samples `sources` until it is closed."""

    def __init__(self, sources: Sequence[Source], interval_seconds: float = INTERVAL_SECONDS) -> None:
        self.sources = sources
        self.interval_seconds = interval_seconds
        self.moments: deque[Moment] = deque(maxlen=round(KEPT_SECONDS / interval_seconds))
        self.readings: list[Reading] = []
        """The latest of every model, in the order of `sources`."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="sampling", daemon=True)

    def start(self) -> None:
        """Begin to sample."""
        self._thread.start()

    def close(self) -> None:
        """End the sampling."""
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        for readings in top.watch(self.sources, self.interval_seconds, self._stop):
            figures = {reading.model: tuple(ask(reading) for ask in SERIES.values()) for reading in readings}
            self.moments.append(Moment(time.time(), figures))
            self.readings = readings

    def series(self, name: str, model: str) -> list[tuple[float, float | None]]:
        """(time, figure) of one model, oldest first; None where there was none, so that a line has a gap."""
        place = list(SERIES).index(name)
        nothing: tuple[None, ...] = (None,) * len(SERIES)
        return [(moment.at, moment.figures.get(model, nothing)[place]) for moment in list(self.moments)]
