"""Log-linear histogram of times: cheap to fill, exact to add up, and every quantile true within 1 %.

Locust rounds its response times to whole milliseconds, where most of ours lie below one; so the load generators keep
these beside them, and send them from one process to the next as plain numbers.

Each power of two of nanoseconds is cut into 64 buckets of equal width, as HdrHistogram does it: a value's bucket is its
seven highest bits and the number of places behind them. So a bucket is never wider than
1/64 of its lower bound, and its middle is never further than 1/128 (0.8 %) from a value within it. Only buckets that
hold something take memory, and there are at most 1,651 of them between 1 µs and 60 s. Rejected:
hdrhistogram, which has no wheel for Linux on arm64 and takes five times as long a value (3.6 µs, this 0.7).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import accumulate
from typing import Any

NS = 1_000_000_000
LOWEST_NS, HIGHEST_NS = 1_000, 60 * NS
FIRST_BOUND_NS = 10_000
"""Values outside are counted as the nearest of the two, and in `below` or `above`."""
BITS = 6
"""2^BITS buckets in each power of two."""
SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
"""The quantiles that every table, page and report shows; the maximum stands beside them."""
ROUNDING = 1e-9
"""0.07 · 100 is a little more than 7 in floating point, and still names the seventh value."""


class Histogram:
    """Times in seconds, kept as whole nanoseconds. Not locked: one thread, or greenlets, which do not yield in here."""

    __slots__ = ("above", "below", "count", "counts", "max_ns", "sum_ns")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        """Values by their bucket's number; a bucket that is not there holds none."""
        self.count = self.sum_ns = self.max_ns = 0
        """`sum_ns` and `max_ns` are exact, beyond the two ends as well."""
        self.below = self.above = 0

    def record_seconds(self, seconds: float) -> None:
        """Count a value. Raises ValueError if it is not a number, OverflowError if it is not finite."""
        value_ns = int(seconds * NS)
        if not LOWEST_NS <= value_ns <= HIGHEST_NS:
            self._add(value_ns, 1, max(0, value_ns))
            return
        # The same as `_add`, written out: this is once a request, and the calls would double what it costs.
        self.count += 1
        self.sum_ns += value_ns
        if value_ns > self.max_ns:
            self.max_ns = value_ns
        places = value_ns.bit_length() - BITS - 1
        bucket = (places << BITS) + (value_ns >> places)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1

    def record_corrected_seconds(self, seconds: float, interval_seconds: float) -> None:
        """Count a value, and those that it kept from being measured: the correction for coordinated omission.

        A client that means to send every `interval_seconds`, and waits for each response first, has sent nothing
        meanwhile. Requests sent in time would have waited `seconds` - 1, 2, 3 … intervals: they are counted too, as
        HdrHistogram's record_corrected_value does. Raises ValueError for an interval that is not above 0.
        """
        if not interval_seconds * NS >= 1:
            raise ValueError(f"an interval must be above 0 seconds, not {interval_seconds}")
        self.record_seconds(seconds)
        interval = int(interval_seconds * NS)
        missing = int(seconds * NS) - interval
        # A bucket at a time: a response of 60 s has kept away 60 million requests that were to be 1 µs apart.
        while missing >= interval:
            times = (missing - max(interval, _least_alike_ns(missing))) // interval + 1
            least = missing - (times - 1) * interval
            self._add(missing, times, times * (missing + least) // 2)
            missing = least - interval

    def _add(self, value_ns: int, times: int, sum_ns: int) -> None:
        self.count += times
        self.sum_ns += sum_ns
        if value_ns > self.max_ns:
            self.max_ns = value_ns
        if value_ns < LOWEST_NS:
            self.below += times
        elif value_ns > HIGHEST_NS:
            self.above += times
        bucket = _bucket(value_ns)
        self.counts[bucket] = self.counts.get(bucket, 0) + times

    def add(self, other: Histogram) -> None:
        """Count everything that `other` has counted."""
        for bucket, times in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + times
        self.count += other.count
        self.sum_ns += other.sum_ns
        self.max_ns = max(self.max_ns, other.max_ns)
        self.below += other.below
        self.above += other.above

    @property
    def sum_seconds(self) -> float:
        """Return the sum of all values, exact to the nanosecond."""
        return self.sum_ns / NS

    @property
    def max_seconds(self) -> float:
        """Return the largest value, exact to the nanosecond; 0 if there is none."""
        return self.max_ns / NS

    @property
    def mean_seconds(self) -> float | None:
        """Return the mean, exact; None for an empty histogram."""
        return self.sum_ns / self.count / NS if self.count else None

    def quantile(self, share: float) -> float | None:
        """Return the seconds that `share` (0 to 1) of the values do not exceed; None for an empty histogram.

        It is the middle of the bucket that holds the value of this rank, at most the largest value. Raises ValueError
        for a share outside.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"a quantile's share must be from 0 to 1, not {share}")
        rank = max(1, math.ceil(share * self.count - ROUNDING))
        if rank >= self.count:
            return self.max_seconds if self.count else None
        for bucket in sorted(self.counts):
            rank -= self.counts[bucket]
            if rank <= 0:
                break
        return min((_lower_ns(bucket) + _lower_ns(bucket + 1)) / 2, self.max_ns) / NS

    def cumulated(self, bounds_seconds: tuple[float, ...]) -> list[int]:
        """Return, for each rising bound, the values in buckets that end at or below it: exact for BOUNDS_SECONDS."""
        ends = [_lower_ns(bucket + 1) for bucket in sorted(self.counts)]
        totals = [0, *accumulate(self.counts[bucket] for bucket in sorted(self.counts))]
        return [totals[bisect_right(ends, round(bound * NS))] for bound in bounds_seconds]

    def steps(self) -> list[tuple[float, float]]:
        """Return (seconds, share of the values up to there) for each bucket that holds any: the distribution."""
        steps, total = [], 0
        for bucket in sorted(self.counts):
            total += self.counts[bucket]
            middle = min((_lower_ns(bucket) + _lower_ns(bucket + 1)) / 2, self.max_ns)
            steps.append((middle / NS, total / self.count))
        return steps

    def to_json(self) -> dict[str, Any]:
        """Return the histogram for JSON and msgpack: `counts` by bucket number, and the figures beside them."""
        counts = {str(bucket): self.counts[bucket] for bucket in sorted(self.counts)}
        return {"counts": counts, **{name: getattr(self, name) for name in FIGURES}}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Histogram:
        """Make a histogram of what `to_json` gave. Raises ValueError for anything else."""
        histogram = cls()
        try:
            histogram.counts = {int(bucket): int(times) for bucket, times in document["counts"].items()}
            for name in FIGURES:
                setattr(histogram, name, int(document[name]))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"no histogram: {error!r}; give what Histogram.to_json() gave") from error
        if histogram.count != sum(histogram.counts.values()):
            raise ValueError(f"no histogram: count is {histogram.count}, its buckets hold another number")
        if not all(bucket in BUCKETS and times > 0 for bucket, times in histogram.counts.items()):
            raise ValueError("no histogram: a bucket's number or count is out of range")
        return histogram

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]  # it changes


FIGURES = ("count", "sum_ns", "max_ns", "below", "above")


def _bucket(value_ns: int) -> int:
    value_ns = min(max(value_ns, LOWEST_NS), HIGHEST_NS)
    places = value_ns.bit_length() - BITS - 1
    return (places << BITS) + (value_ns >> places)


def _lower_ns(bucket: int) -> int:
    """Return the smallest value of a bucket: `_bucket`, the other way round."""
    places = (bucket >> BITS) - 1
    return (bucket - (places << BITS)) << places


def _least_alike_ns(value_ns: int) -> int:
    """Return the smallest value that is counted as this one is: in the same bucket, and outside the ends or not."""
    if value_ns > HIGHEST_NS:
        return HIGHEST_NS + 1
    return max(LOWEST_NS, _lower_ns(_bucket(value_ns))) if value_ns >= LOWEST_NS else 0


def _bounds() -> tuple[float, ...]:
    """Return the ends of buckets, each the last one that is not above 1.1 times the one before."""
    bounds = [_lower_ns(_bucket(FIRST_BOUND_NS))]
    while (longest := bounds[-1] * 11 // 10) < HIGHEST_NS:
        bounds.append(_lower_ns(_bucket(longest)))
    return tuple(bound / NS for bound in bounds)


BUCKETS = range(_bucket(LOWEST_NS), _bucket(HIGHEST_NS) + 1)
BOUNDS_SECONDS = _bounds()
"""Upper bounds for Prometheus, 10 µs to 60 s, at most 1.1 times apart: histogram_quantile is true within 10 % there."""
