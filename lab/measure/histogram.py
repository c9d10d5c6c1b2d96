"""A histogram with fixed buckets: cheap to fill, exact to add up, good enough to read percentiles from.

Locust rounds its response times to whole milliseconds, where most of ours lie below one; so the load
generator keeps these beside them, and sends them from worker to master as plain numbers.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate

BUCKETS_SECONDS = (
    *(float(f"{mantissa}e{exponent}") for exponent in range(-4, 1) for mantissa in (1, 2.5, 5)),
    10.0,
)
"""Upper bounds, 100 µs to 10 s; one more bucket holds the rest."""


@dataclass(slots=True)
class Histogram:
    """`counts[i]` values lie above the bound before the i-th and not above the i-th."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_SECONDS) + 1))
    sum_seconds: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one value."""
        self.counts[bisect_left(BUCKETS_SECONDS, seconds)] += 1
        self.sum_seconds += seconds

    def add(self, other: Histogram) -> None:
        """Count everything that `other` has counted."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.sum_seconds += other.sum_seconds

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """Seconds below which `share` (0 to 1) of the values lie; None for an empty histogram.

        Linear within a bucket, as PromQL's histogram_quantile; what lies above the last bound is
        reported as the last bound.
        """
        if not self.count:
            return None
        rank = share * self.count
        cumulated = list(accumulate(self.counts))
        bucket = bisect_left(cumulated, rank)
        if bucket >= len(BUCKETS_SECONDS):
            return BUCKETS_SECONDS[-1]
        lower = BUCKETS_SECONDS[bucket - 1] if bucket else 0.0
        below = cumulated[bucket - 1] if bucket else 0
        within = (rank - below) / self.counts[bucket] if self.counts[bucket] else 0.0
        return lower + (BUCKETS_SECONDS[bucket] - lower) * within
