"""`lab top`: the running models, live in a terminal, read from their admin endpoints."""

from __future__ import annotations

import json
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict
from itertools import pairwise
from typing import TYPE_CHECKING

from lab import settings
from lab.top.readings import Reading, renewed
from lab.top.samples import ANSWER_SECONDS, Sample, Source, late, take

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future

    from rich.console import Console

NOTHING_ANSWERS = 2
PATIENCE_SECONDS = 0.25
"""A server that has not responded by then is shown as it was last, so that one that hangs holds up no other."""
IDLE_FOR_BUSY = 3
"""A second of processor spent on a sample is followed by so many without: at most a quarter of a core, however slow."""


def stack_sources() -> list[Source]:
    """The five models of the stack, up or not. Raises `settings.SettingError`."""
    ports = settings.ADMIN_PORTS.items()
    return [Source(name, f"http://{settings.host_of(name)}:{port.number}") for name, port in ports]


class Asked:
    """One server: what it said last, and whether it still owes an answer. For the thread that samples."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._owed: Future[Sample] | None = None
        self._since = 0.0
        self._latest = Sample(source, time.monotonic(), "has not answered yet")

    def ask(self, pool: ThreadPoolExecutor) -> Future[Sample]:
        """The answer to come; one that is owed is not asked for twice."""
        if self._owed is None:
            self._owed, self._since = pool.submit(take, self._source), time.monotonic()
        return self._owed

    def latest(self) -> Sample:
        """Its answer; the one before, as the very same object, while that is not too old."""
        if self._owed is not None and self._owed.done():
            self._latest, self._owed = self._owed.result(), None
        elif not self._latest.problem and time.monotonic() - self._since > ANSWER_SECONDS:
            self._latest = late(self._source)
        return self._latest


def sample(
    sources: Sequence[Source],
    interval_seconds: Callable[[], float],
    stop: threading.Event,
    patience_seconds: float | None = PATIENCE_SECONDS,
) -> Iterator[list[Sample]]:
    """Samples of all, the first at once and then one an interval, until `stop` is set.

    A server that takes longer than `patience_seconds` (None: however long) comes with a later round.
    """
    asked = [Asked(source) for source in sources]
    with ThreadPoolExecutor(max_workers=len(sources)) as pool:
        due = time.monotonic()
        while not stop.wait(max(0.0, due - time.monotonic())):
            used = time.process_time()
            wait([one.ask(pool) for one in asked], patience_seconds)
            yield [one.latest() for one in asked]
            # A poll that was late does not make the next ones come in a burst, and on a slow machine whoever watches
            # leaves most of it to those who are watched.
            pause = IDLE_FOR_BUSY * (time.process_time() - used)
            due = max(due + interval_seconds(), time.monotonic() + pause)


def watch(
    sources: Sequence[Source],
    interval_seconds: float,
    stop: threading.Event,
    patience_seconds: float | None = PATIENCE_SECONDS,
) -> Iterator[list[Reading]]:
    """Readings until `stop` is set: the first after one interval, since a rate takes two samples."""
    readings: list[Reading] = []
    for before, after in pairwise(sample(sources, lambda: interval_seconds, stop, patience_seconds)):
        readings = renewed(readings, before, after)
        yield readings


def live(sources: Sequence[Source], interval_seconds: float, console: Console) -> None:
    """Show readings until Ctrl-C or SIGTERM."""
    from rich.live import Live
    from rich.text import Text

    from lab.top.view import Screen, render

    # An exception out of a signal handler can land where it is swallowed (a finaliser, a callback), and SIGTERM's
    # default would leave the terminal on the alternate screen and without a cursor. An event does neither.
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with Live(Text("lab top: first sample …"), console=console, screen=True, auto_refresh=False) as display:
        for readings in watch(sources, interval_seconds, stop):
            display.update(render(readings, Screen(interval_seconds, console.height)), refresh=True)


def once(sources: Sequence[Source], interval_seconds: float) -> list[Reading]:
    """One reading of each, from two samples an interval apart."""
    return next(watch(sources, interval_seconds, threading.Event(), patience_seconds=None))


def document(readings: Sequence[Reading], interval_seconds: float) -> str:
    """The readings as JSON."""
    models = [asdict(reading) for reading in readings]
    return json.dumps({"time": time.time(), "interval_seconds": interval_seconds, "models": models}, indent=2)
