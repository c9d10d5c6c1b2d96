"""The last quarter of an hour, in memory: what the page shows.

The latest readings are kept whole; of the others, the few figures that are drawn. A thread samples, so that a model
that does not answer holds up no visitor. While nobody looks it samples less often, but never stops: who comes later
sees what was before.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lab import top
from lab.console.anatomy import shape_of, workers_of
from lab.top.readings import renewed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lab.top.readings import Quantiles, Reading
    from lab.top.samples import Sample, Source

log = logging.getLogger(__name__)

WATCHED_SECONDS, UNWATCHED_SECONDS = 0.5, 1.0
"""Between two samples, while somebody looks and, if nothing else is asked for, while nobody does."""
FORGET_VISITOR_SECONDS = 5.0
KEPT_SECONDS = 15 * 60
MOMENT_SECONDS = 1.0
STALE_SECONDS = 30.0
"""Without a sample for so long, sampling has ended: on a slow machine there may be some seconds between two."""
LATE_SECONDS = 1.0
"""So much later than it was due a sample comes now and then, and nobody need know."""
ALONE = 0.9
"""Connections accepted a request, from which on each request counts as having one of its own."""
WINDOW_SECONDS = 5.0
"""A moment's rates and quantiles are of so long before it: of half a second they would be mostly chance."""


@dataclass(frozen=True, slots=True)
class Moment:
    """The figures of all models at one time."""

    at: float
    """Seconds since the epoch."""
    figures: dict[str, tuple[float | None, ...]]
    """model → one figure for each of `SERIES`."""


class History:
    """Samples `sources` until it is closed."""

    def __init__(
        self,
        sources: Sequence[Source],
        clock: Callable[[], float] = time.time,
        unwatched_seconds: float = UNWATCHED_SECONDS,
    ) -> None:
        self.sources = sources
        self.moments: deque[Moment] = deque(maxlen=round(KEPT_SECONDS / MOMENT_SECONDS))
        self.readings: list[Reading] = []
        """The latest of every model, in the order of `sources`."""
        self.lately: list[Reading] = []
        """The same, over the last `WINDOW_SECONDS`."""
        self.number = 0
        """Of the latest readings: it grows with each."""
        self._samples: deque[list[Sample]] = deque(maxlen=1 + round(WINDOW_SECONDS / WATCHED_SECONDS))
        self._clock = clock
        self._unwatched_seconds = unwatched_seconds
        self._looked = float("-inf")
        self._noted = time.monotonic()
        self._due_seconds = unwatched_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="sampling", daemon=True)

    def start(self) -> None:
        """Begin to sample."""
        self._thread.start()

    def close(self) -> None:
        """End the sampling."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def looked(self) -> None:
        """Somebody looks."""
        self._looked = time.monotonic()

    def interval_seconds(self) -> float:
        """Until the next sample."""
        watched = time.monotonic() - self._looked < FORGET_VISITOR_SECONDS
        return WATCHED_SECONDS if watched else self._unwatched_seconds

    def age_seconds(self) -> float:
        """Age of the latest readings; 0 until newer ones are overdue, since nobody may have looked for long."""
        age = time.monotonic() - self._noted
        return age if age > self._due_seconds + LATE_SECONDS else 0.0

    def is_stale(self) -> bool:
        """Return whether sampling has ended, for whatever reason."""
        return self.age_seconds() > max(STALE_SECONDS, 3 * self._unwatched_seconds)

    def note(self, samples: list[Sample]) -> None:
        """Keep what these samples show."""
        samples = [as_expected(sample) for sample in samples]
        if self._samples:
            self.readings = renewed(self.readings, self._samples[-1], samples)
        self._samples.append(samples)
        while len(self._samples) > 2 and newest(samples) - newest(self._samples[0]) > WINDOW_SECONDS:
            self._samples.popleft()
        now = self._clock()
        # A sample may come a little early; half a moment is as near to a whole one as to none.
        if self.readings and (not self.moments or now - self.moments[-1].at > MOMENT_SECONDS - WATCHED_SECONDS / 2):
            self.lately = renewed(self.lately, self._samples[0], samples)
            self.moments.append(Moment(now, {reading.model: figures_of(reading) for reading in self.lately}))
        # Last, since whoever sees a new number takes all that is above for what belongs to it.
        self.number += bool(self.readings)
        self._noted, self._due_seconds = time.monotonic(), self.interval_seconds()

    def since(self, at: float) -> list[Moment]:
        """The moments after this time, oldest first."""
        return [moment for moment in list(self.moments) if moment.at > at]

    def _sample(self) -> None:
        for samples in top.sample(self.sources, self.interval_seconds, self._stop):
            try:
                self.note(samples)
            except Exception:
                # The next may be better; until one is, the page says how old its figures are.
                log.exception("a sample could not be read")


def newest(samples: Sequence[Sample]) -> float:
    """Return the time of the latest of them."""
    return max(sample.taken for sample in samples)


def as_expected(sample: Sample) -> Sample:
    """The sample; as one of a server that is down where another than the one expected there answers."""
    if sample.problem or sample.model == sample.source.name:
        return sample
    return replace(sample, problem=f"{sample.model} answers in its place", state={}, series={})


# What is kept of a reading.


def jain(reading: Reading) -> float | None:
    """Jain's fairness index of the workers' requests: 1 where all did as much, 1/n where one did all.

    None where nothing was done, or where there is nobody to share it with.
    """
    rates = _rates(reading)
    return sum(rates) ** 2 / (len(rates) * sum(rate**2 for rate in rates)) if any(rates) else None


def imbalance(reading: Reading) -> float | None:
    """The busiest worker's requests over the mean of all: 1 where all did as much."""
    rates = _rates(reading)
    return max(rates) * len(rates) / sum(rates) if any(rates) else None


def tail(reading: Reading) -> float | None:
    """Return how many times longer the slowest hundredth takes than the median, each in its slowest stage."""
    slow, usual = _p99(reading), _p50(reading)
    return slow / usual if slow and usual else None


def _rates(reading: Reading) -> list[float]:
    shown = set(workers_of(reading))
    rates = [worker.requests_per_second or 0.0 for worker in reading.workers if worker.worker in shown]
    return rates if len(rates) > 1 else []


def _met_by_requests(reading: Reading) -> Iterator[Quantiles]:
    """The stages of which there is one a request.

    Connections are accepted, and in some models handed off, once: where one carries many requests, how long that took
    is a quantile of connections, and says nothing about one request in so many.
    """
    once: set[str] = set() if _each_has_its_own_connection(reading) else of_connections(reading)
    for name, stage in reading.stages.items():
        if stage is not None and name not in once:
            yield stage


def of_connections(reading: Reading) -> set[str]:
    """The stages that a connection meets once."""
    hands = shape_of(reading.model, workers_of(reading), reading.options).hands
    return {"accept_wait", "dispatch_wait"} if hands == "connections" else {"accept_wait"}


def _each_has_its_own_connection(reading: Reading) -> bool:
    """Return whether nearly each request comes on a connection of its own."""
    return (reading.accepts_per_second or 0.0) >= ALONE * (reading.requests_per_second or 0.0) > 0


def _p50(reading: Reading) -> float | None:
    """The largest of the stages. Quantiles of stages do not add up; that of the whole is at least this."""
    return max((stage.p50 for stage in _met_by_requests(reading)), default=None)


def _p99(reading: Reading) -> float | None:
    """The same; it may be another stage's."""
    return max((stage.p99 for stage in _met_by_requests(reading)), default=None)


SERIES: dict[str, Callable[[Reading], float | None]] = {
    "requests": lambda reading: reading.requests_per_second,
    "p50": _p50,
    "p99": _p99,
    "accept_queue": lambda reading: float(reading.fullest_queue.length),
    "drops": lambda reading: reading.drops_per_second,
    "imbalance": imbalance,
    "jain": jain,
    "tail": tail,
}
"""Figures that are kept of a reading, by name."""


def figures_of(reading: Reading) -> tuple[float | None, ...]:
    """One for each of `SERIES`, as precise as a line on a screen; None where there is none, so that it has a gap."""
    found = (ask(reading) if reading.up else None for ask in SERIES.values())
    return tuple(None if figure is None else float(f"{figure:.4g}") for figure in found)
