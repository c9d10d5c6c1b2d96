"""Memory under an hour of mixed load, fast-forwarded: timeouts and a key's life last seconds, and clients do not pause.

An hour is counted in events, not in minutes: as many rounds of each kind (mixed_load.py) as a client a second would
make of it in an hour. The bounds are derived from them. A leak is an object, or a piece of the C library's memory, that
some kind of event leaves behind each time; so use that grows by less than one a round of kinds, with 99 % confidence,
hides no such leak. It is asked what is in use (in_use.py), since what a server holds of the kernel's memory creeps up
without a leak, too; that is shown, and bounded by what a container has.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple

from reliability.figures import Check, Figures
from reliability.in_use import FOLDER, PROGRAM, InUse, ask
from reliability.mixed_load import KINDS, Client
from reliability.serving import anonymous_bytes, serving
from reliability.slope import Slope, slope
from support.servers import Server

from lab.measure.processes import tree
from services.options import MODELS

CLIENTS = 4
HOUR = 3600
"""Rounds of each kind that are an hour's."""
LEAST_BLOCKS = 1
LEAST_MALLOC_BYTES = 32
"""The smallest piece that glibc gives on a machine of 64 bits."""
TIMEOUTS = ("--header-timeout", "0.5", "--body-timeout", "0.5", "--idle-timeout", "1", "--key-ttl", "2")
STALLED_SECONDS = 3.0
"""Longer than the timeouts, which are looked at once a second."""
SAMPLE_SECONDS, LEAST_SAMPLES = 4.0, 30
"""A collection of garbage takes some 10 ms of each process."""
WARM_UP = 0.5
"""Share of the run that is left out. The store reaches the size at which keys expire in seconds, but the C library's
caches, of each thread and each size, count as in use and take minutes to fill.
"""
PARTS = 20
LIMIT_BYTES = 256 * 2**20
"""Of a model's container (docker-compose.yml)."""


class Sample(NamedTuple):
    """Memory at one moment, in seconds since the load began."""

    at: float
    in_use: InUse
    held: int


@dataclass(frozen=True)
class FlatMemory(Figures):
    """Figures of one model, of all its processes together. Slopes are of the second half of the run, a second."""

    seconds: float
    events: dict[str, int]
    failures: list[str]
    blocks: Slope
    malloc_bytes: Slope
    resident_bytes: list[int]
    """Anonymous memory: medians of twenty parts of the run."""
    died: int

    @property
    def rounds(self) -> int:
        """Return how often the rarest kind of event came."""
        return min(self.events.values())

    @property
    def size(self) -> str:
        """Return how many events."""
        return (
            f"{sum(self.events.values()):,} events of {len(self.events)} kinds in {self.seconds:.0f} s: "
            f"{self.rounds / HOUR:.1f} hours of a client a second and kind"
        )

    def checks(self) -> list[Check]:
        """Return the judgements."""
        blocks = [each * self.seconds / max(1, self.rounds) for each in self.blocks[:3]]
        malloc = [each * self.seconds / max(1, self.rounds) for each in self.malloc_bytes[:3]]
        half, end = self.resident_bytes[PARTS // 2 - 1], self.resident_bytes[-1]
        return [
            Check(
                "objects more in use, a round of kinds",
                "{:+.3f} ({:+.3f} to {:+.3f})".format(*blocks),
                f"below {LEAST_BLOCKS}",
                blocks[2] < LEAST_BLOCKS,
            ),
            Check(
                "bytes of malloc more in use, a round",
                "{:+.1f} ({:+.1f} to {:+.1f})".format(*malloc),
                f"below {LEAST_MALLOC_BYTES}",
                malloc[2] < LEAST_MALLOC_BYTES,
            ),
            Check(
                "memory that is held",
                f"{half / 2**20:.1f} MiB after half of it, {(end - half) / 2**20:+.2f} at the end",
                f"below {LIMIT_BYTES >> 20} MiB",
                end < LIMIT_BYTES,
            ),
            *self.short_checks(),
        ]

    def short_checks(self) -> list[Check]:
        """Return those that a short run can decide, too."""
        failures = f"{len(self.failures)}{': ' if self.failures else ''}{'; '.join(self.failures[:3])}"
        return [
            Check("every kind of event came", f"at least {self.rounds:,} times", "at least 1", self.rounds > 0),
            Check("events that failed", failures, "0", not self.failures),
            Check("no worker died", str(self.died), "0", self.died == 0),
        ]


def flat_memory(
    seconds: float, rounds_per_second: float, models: tuple[str, ...] = tuple(MODELS)
) -> Iterator[FlatMemory]:
    """Load each model for so long; each of the clients tries so many events a second."""
    for model in models:
        yield one_model(model, seconds, rounds_per_second)


def one_model(model: str, seconds: float, rounds_per_second: float) -> FlatMemory:
    """Return the figures of one model."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = ("--workers", "2", *TIMEOUTS)
        with serving(model, *options, program=PROGRAM, env={**os.environ, FOLDER: name}) as server:
            family = tree(server.pid)
            began = time.monotonic()
            with loading(server, rounds_per_second) as clients:
                samples = [Sample(at, ask(folder, family), anonymous_bytes(family)) for at in moments(began, seconds)]
            lasted = time.monotonic() - began
            died = len(set(family) - set(tree(server.pid)))
    judged = samples[int(len(samples) * WARM_UP) :]
    times = [sample.at for sample in judged]
    return FlatMemory(
        model, lasted, dict(sum((client.events for client in clients), Counter(dict.fromkeys(KINDS, 0)))),
        [failure for client in clients for failure in client.failures],
        slope(times, [sample.in_use.blocks for sample in judged]),
        slope(times, [sample.in_use.malloc_bytes for sample in judged]),
        parts([sample.held for sample in samples]), died,
    )  # fmt: skip


def parts(values: Sequence[int]) -> list[int]:
    """Return the medians of PARTS parts of the series."""
    ends = [round(number * len(values) / PARTS) for number in range(PARTS + 1)]
    return [int(median(values[begin:end])) for begin, end in pairwise(ends)]


@contextmanager
def loading(server: Server, rounds_per_second: float) -> Iterator[list[Client]]:
    """Have the clients at work meanwhile."""
    clients = [Client(server.port, number, rounds_per_second, STALLED_SECONDS) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        yield clients
    finally:
        for client in clients:
            client.stop()


def moments(began: float, seconds: float) -> Iterator[float]:
    """Yield the time since `began`, every SAMPLE_SECONDS, and LEAST_SAMPLES times at least."""
    pause = min(SAMPLE_SECONDS, seconds / LEAST_SAMPLES)
    for number in range(1, round(seconds / pause) + 1):
        time.sleep(max(0.0, began + number * pause - time.monotonic()))
        yield time.monotonic() - began
