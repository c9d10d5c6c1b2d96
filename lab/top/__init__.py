"""`lab top`: the running models, live in a terminal, read from their admin endpoints."""

from __future__ import annotations

import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import TYPE_CHECKING

from lab import settings
from lab.top.readings import Reading, read
from lab.top.samples import Sample, Source, take

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

NOTHING_ANSWERS = 2


def stack_sources() -> list[Source]:
    """The five models of the stack, up or not. Raises `settings.SettingError`."""
    return [Source(name, port.url) for name, port in settings.ADMIN_PORTS.items()]


def watch(sources: Sequence[Source], interval_seconds: float) -> Iterator[list[Reading]]:
    """Readings without end: the first after one interval, since a rate takes two samples."""
    with ThreadPoolExecutor(max_workers=len(sources)) as pool:
        before = list(pool.map(take, sources))
        due = time.monotonic()
        while True:
            # A poll that was late does not make the next ones come in a burst.
            due = max(due + interval_seconds, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
            after: list[Sample] = list(pool.map(take, sources))
            yield [read(then, now) for then, now in zip(before, after, strict=True)]
            before = after


def live(sources: Sequence[Source], interval_seconds: float, console: Console) -> None:
    """Show readings until Ctrl-C or SIGTERM."""
    from rich.live import Live
    from rich.text import Text

    from lab.top.view import Screen, render

    # Without this, SIGTERM would leave the terminal on the alternate screen and without a cursor.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Live(Text("lab top: first sample …"), console=console, screen=True, auto_refresh=False) as display:
            for readings in watch(sources, interval_seconds):
                display.update(render(readings, Screen(interval_seconds, console.height)), refresh=True)
    except KeyboardInterrupt:
        return


def once(sources: Sequence[Source], interval_seconds: float) -> list[Reading]:
    """One reading of each, from two samples an interval apart."""
    return next(watch(sources, interval_seconds))


def document(readings: Sequence[Reading], interval_seconds: float) -> str:
    """The readings as JSON."""
    models = [asdict(reading) for reading in readings]
    return json.dumps({"time": time.time(), "interval_seconds": interval_seconds, "models": models}, indent=2)
