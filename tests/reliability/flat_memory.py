"""Memory under an hour of mixed load, fast-forwarded: timeouts and a key's life last seconds, and clients do not pause.

An hour is counted in events, not in minutes: as many rounds of each kind (mixed_load.py) as a client a second would
make of it in an hour. The bound is derived from them. A leak is an object that some kind of event leaves behind each
time, and the least that one takes is LEAST_LEAK_BYTES; so memory that grows by less than this a round of kinds, with
99 % confidence, hides no such leak.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

from reliability.figures import Check, Figures
from reliability.mixed_load import KINDS, Client
from reliability.serving import anonymous_bytes, serving
from reliability.slope import Slope, slope
from support.servers import Server

from lab.measure.processes import tree
from services.options import MODELS

CLIENTS = 4
HOUR = 3600
"""Rounds of each kind that are an hour's."""
LEAST_LEAK_BYTES = 40
"""Of CPython's objects an int is among the smallest: 28 bytes, for which its allocator takes 32; and what keeps it
alive takes 8 at least, the entry of a list.
"""
TIMEOUTS = ("--header-timeout", "0.5", "--body-timeout", "0.5", "--idle-timeout", "1", "--key-ttl", "2")
STALLED_SECONDS = 3.0
"""Longer than the timeouts, which are looked at once a second."""
SAMPLE_SECONDS, LEAST_SAMPLES = 0.5, 30
WARM_UP = 0.5
"""Share of the run that is left out: the heap fills. The store reaches the size at which keys expire in seconds, but the
allocator's peak creeps up for long, ever slower: each time that more than before is alive at once, between blocks that
stay. In a run cut in halves a leak has the same slope in both, and a heap that fills has little in the second.
"""
LIMIT_BYTES = 256 * 2**20
"""Of a model's container (docker-compose.yml)."""


@dataclass(frozen=True)
class FlatMemory(Figures):
    """Figures of one model. The slope is of the anonymous memory of all its processes, in bytes a second."""

    seconds: float
    events: dict[str, int]
    failures: list[str]
    start_bytes: int
    """Medians of the first and the last tenth of what is judged."""
    end_bytes: int
    slope: Slope
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
        second = max(1, self.rounds) / self.seconds
        value, low, high = (each / second for each in self.slope[:3])
        grown = (self.end_bytes - self.start_bytes) / 2**20
        return [
            Check(
                "bytes a round of kinds",
                f"{value:+.1f} ({low:+.1f} to {high:+.1f})",
                f"below {LEAST_LEAK_BYTES}",
                high < LEAST_LEAK_BYTES,
            ),
            Check(
                "memory",
                f"{self.start_bytes / 2**20:.1f} MiB, {grown:+.2f} at the end",
                f"below {LIMIT_BYTES >> 20} MiB",
                self.end_bytes < LIMIT_BYTES,
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
    with serving(model, "--workers", "2", *TIMEOUTS) as server:
        family = tree(server.pid)
        began = time.monotonic()
        with loading(server, rounds_per_second) as clients:
            samples = [(at, anonymous_bytes(family)) for at in moments(began, seconds)]
        lasted = time.monotonic() - began
        judged = samples[int(len(samples) * WARM_UP) :]
        tenth = max(1, len(judged) // 10)
        sizes = [size for _, size in judged]
        return FlatMemory(
            model, lasted, dict(sum((client.events for client in clients), Counter(dict.fromkeys(KINDS, 0)))),
            [failure for client in clients for failure in client.failures],
            int(median(sizes[:tenth])), int(median(sizes[-tenth:])),
            slope([at for at, _ in judged], sizes), len(set(family) - set(tree(server.pid))),
        )  # fmt: skip


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
