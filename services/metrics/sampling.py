"""Stages of a request's life: which requests are timed, and where the times go.

Timing every request would cost a third of the throughput (clock reads, and `recvmsg` in place of
`recv`), so requests are sampled. The distance between two samples is random, uniform in 1 … 2N-1 with
mean N: a fixed distance would meet the same worker, the same connection or the same URL of a client
that alternates every time. Each sample adds, as its weight, the requests that it stands for: those
since the sample before it, itself included. So the weights add up to the requests, and no later
correction by N is needed, not even when N changes.

A `Sampler` belongs to one loop and is used by that loop's thread only.
"""

from __future__ import annotations

import random
from bisect import bisect_left

from services.metrics import slots

SPARSE = 32
"""N of `auto` under load, at least."""
SAMPLES_A_SECOND = 100
"""`auto` takes about this many at the most. A timed request costs 20 to 50 µs more than others where they are
rare (its code is cold), so this is at most 0.5 % of a core, and p99 of 10 s still rests on 10 samples above it."""
MANY_A_SECOND = 1000
FEW_A_SECOND = 700
"""`auto` samples 1 in SPARSE, or fewer, above the first rate and everything below the second; between them it
stays as it is, or a load near the limit would change N every second."""
NEVER = 1 << 62

SHORTEST_NS = round(slots.SHORTEST_SECONDS * 1e9)
STAGE_SLOTS = {
    stage: (tuple(round(bound * 1e9) for bound in bounds), slots.STAGE_BUCKETS[stage][0], slots.STAGE_SUM_NS[stage])
    for stage, bounds in slots.STAGE_BOUNDS_SECONDS.items()
}
"""Stage → its bounds in ns, the slot of its first bucket, and that of its sum."""


class Rate:
    """Of how many events one is sampled, on average: fixed, or by the load ("auto")."""

    def __init__(self, rate: str) -> None:
        self._adapts = rate == "auto"
        self.mean = 1 if self._adapts else int(rate)
        self._total = 0
        self._at_ns = 0

    def adapt(self, total: int, now_ns: int) -> bool:
        """Look at the rate since the last call. True if from now on every event is to be sampled."""
        elapsed_ns, new = now_ns - self._at_ns, total - self._total
        first = self._at_ns == 0
        self._total, self._at_ns = total, now_ns
        if first or not self._adapts or elapsed_ns <= 0:
            return False
        before = self.mean
        a_second = new * 1e9 / elapsed_ns
        if a_second > MANY_A_SECOND:
            self.mean = max(SPARSE, round(a_second / SAMPLES_A_SECOND))
        elif a_second < FEW_A_SECOND:
            self.mean = 1
        return self.mean == 1 < before

    def hurried(self, total: int) -> int:
        """Return the mean now: not even the second's end is waited for when it already holds many events."""
        new = total - self._total
        if new > MANY_A_SECOND and self._adapts:
            self.mean = max(self.mean, SPARSE, new // SAMPLES_A_SECOND)
        return self.mean


class Sampler:
    """Picks requests and connections at random distances, and adds their times to the worker's slots.

    `rate` is "auto", a number N ≥ 1 (one in N), or "off". Raises ValueError for anything else.
    """

    def __init__(self, block: slots.Block, rate: str, seed: int | None = None) -> None:
        if rate not in ("auto", "off") and not (rate.isdecimal() and int(rate) >= 1):
            raise ValueError(f"sample rate {rate!r}: give auto, or a whole number N from 1 to sample one in N")
        self.block = block
        """The times are written here."""
        self._random = random.Random(seed).random
        self._request_rate = Rate("1" if rate == "off" else rate)
        self._connection_rate = Rate("1" if rate == "off" else rate)
        self.gap = self.connection_gap = NEVER if rate == "off" else 0
        """Requests (connections) to pass over until the next sample. Whoever reads (accepts) subtracts one each time
        and samples below 0 (at 0), which saves the others a call."""
        self._times: list[tuple[str, int, int]] = []
        self.record = self._times.append
        """Note a stage's (name, ns, weight), the weight being the requests that it stands for; `publish` adds it.

        Only noted, and without a call of Python's own, because code that runs once in 32 requests finds its own bytes
        and data cold in the processor's caches. Adding many times in one go took a timed request from 29 µs to 20 µs.
        """
        self._connections_drawn = 1
        self._sampled_at = 0
        self._connections_weighed = 0

    def draw(self) -> None:
        """Choose the next sample. Called as one is received: many requests are, before the first is executed."""
        self.gap = int(self._random() * (2 * self._request_rate.mean - 1))

    def take(self, requests: int) -> int:
        """Return the weight of a sample: how many `requests` since the last there have been, this one included."""
        weight = requests - self._sampled_at
        self._sampled_at = requests
        self._request_rate.hurried(requests)
        return weight

    def take_connection(self) -> int:
        """Sample a connection: its weight. The caller subtracts every connection, this one as well."""
        weight = self._connections_drawn - self.connection_gap
        self._connections_weighed += weight
        mean = self._connection_rate.hurried(self._connections_weighed)
        self.connection_gap = self._connections_drawn = 1 + int(self._random() * (2 * mean - 1))
        return weight

    def publish(self) -> None:
        """Add the times noted since the last call to the slots. Clocks of two kinds meet in a stage: below 0 is 0."""
        times = self._times
        if not times:  # as after most iterations of a loop under load
            return
        block = self.block
        for stage, duration_ns, weight in times:
            bounds_ns, bucket, total = STAGE_SLOTS[stage]
            if duration_ns > 0:
                block[total] += weight * duration_ns
            if duration_ns > SHORTEST_NS:  # most of some stages are not: what the finer ladder costs, this saves
                bucket += bisect_left(bounds_ns, duration_ns)
            block[bucket] += weight
        times.clear()

    def tick(self, requests_total: int, now_ns: int) -> None:
        """Adapt to the load. Called about once a second, with monotonic ns."""
        # A long gap drawn under load would swallow the few requests that now come: end it.
        if self._request_rate.adapt(requests_total, now_ns):
            self.gap = min(self.gap, 0)
        connections_total = self._connections_weighed + self._connections_drawn - self.connection_gap
        if self._connection_rate.adapt(connections_total, now_ns) and self.connection_gap > 0:
            self._connections_drawn -= self.connection_gap
            self.connection_gap = 0
