"""Two samples of a server make a reading: what happened between them, a second.

Levels (queues, connections, states) are those of the later sample. Rates need two samples of the same
process; they are None until there are.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from services.options import MODELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.top.samples import Labels, Sample

STAGES = ("accept_wait", "kernel_wait", "dispatch_wait", "service", "return_wait", "write")
MAIN = "main"


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Of one stage, in seconds."""

    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class WorkerReading:
    """One worker, or main where main takes part in serving."""

    worker: str
    kind: str
    pid: int | None
    state: str | None
    """None for main beside its workers: `/state` speaks of those who serve."""
    connections: int
    queue_depth: int
    requests_per_second: float | None
    share: float | None
    """Of the model's requests between the samples; 0 to 1."""
    cpu_percent: float | None
    switches_per_accept: float | None
    """Voluntary context switches for each connection accepted; None where none was."""


@dataclass(frozen=True, slots=True)
class Queue:
    """Connections that wait to be accepted. The kernel calls it full above `limit`, so it holds one more."""

    length: int
    limit: int

    @property
    def full(self) -> bool:
        """Return whether the next connection would be dropped."""
        return self.length > self.limit


@dataclass(frozen=True, slots=True)
class Reading:
    """One server between two samples."""

    model: str
    url: str
    up: bool
    problem: str = ""
    seconds: float | None = None
    accept_queue: Queue = Queue(0, 0)
    """Over all listeners."""
    fullest_queue: Queue = Queue(0, 0)
    queues: list[Queue] = field(default_factory=list)
    """One a listener, in their order."""
    syn_queue_length: int = 0
    drops: int = 0
    drops_per_second: float | None = None
    connections: int = 0
    requests_per_second: float | None = None
    accepts_per_second: float | None = None
    wasted_wakeups_per_second: float | None = None
    worker_restarts: int = 0
    stages: dict[str, Quantiles | None] = field(default_factory=dict)
    seconds_per_request: dict[str, float] = field(default_factory=dict)
    """In each stage, on average over all requests, so that the stages add up to the whole."""
    workers: list[WorkerReading] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    """Those in force."""


def read(before: Sample | None, after: Sample) -> Reading:
    """Return what `after` says, and what changed since `before`."""
    if after.problem:
        return Reading(after.model, after.source.url, up=False, problem=after.problem)
    change = Change(before, after)
    queues = _queues(after)
    buckets = change.buckets("lab_stage_duration_seconds", "stage")
    return Reading(
        model=after.model,
        url=after.source.url,
        up=True,
        seconds=change.seconds,
        accept_queue=Queue(sum(queue.length for queue in queues), sum(queue.limit for queue in queues)),
        fullest_queue=max(queues, key=lambda queue: queue.length, default=Queue(0, 0)),
        queues=queues,
        syn_queue_length=int(after.total("lab_syn_queue_length")),
        drops=int(after.total("lab_listener_drops_total")),
        drops_per_second=change.rate("lab_listener_drops_total"),
        connections=int(after.total("lab_connections_open")),
        requests_per_second=change.rate("lab_requests_total"),
        accepts_per_second=change.rate("lab_connections_accepted_total"),
        wasted_wakeups_per_second=change.rate("lab_accept_wasted_wakeups_total"),
        worker_restarts=int(after.total("lab_worker_restarts_total")),
        stages={stage: _quantiles(buckets.get(stage, ())) for stage in STAGES},
        seconds_per_request=_seconds_per_request(change),
        workers=[_worker(change, name) for name in _names(after)],
        options=after.state.get("options") or {},
    )


def renewed(readings: Sequence[Reading], before: Sequence[Sample], after: Sequence[Sample]) -> list[Reading]:
    """Readings of `after`. Who has not answered since `before`, whose sample is the same, keeps its last one."""
    pairs = enumerate(zip(before, after, strict=True))
    return [readings[place] if readings and then is now else read(then, now) for place, (then, now) in pairs]


class Change:
    """Gains of counters between two samples."""

    def __init__(self, before: Sample | None, after: Sample) -> None:
        self.after = after
        # A restarted server counts from 0 again: there is nothing to compare with yet.
        comparable = before is not None and not before.problem and before.state.get("pid") == after.state.get("pid")
        self._before = before if comparable else None

    @property
    def seconds(self) -> float | None:
        """Between the samples; None if there is only one."""
        return self.after.taken - self._before.taken if self._before is not None else None

    def gain(self, name: str, **labels: str) -> float | None:
        """Return the growth of the sum of these series; None if there is only one sample."""
        if self._before is None:
            return None
        return max(0.0, self.after.total(name, **labels) - self._before.total(name, **labels))

    def rate(self, name: str, **labels: str) -> float | None:
        """The same, a second."""
        gain = self.gain(name, **labels)
        return gain / self.seconds if gain is not None and self.seconds else None

    def buckets(self, name: str, label: str) -> dict[str, list[tuple[float, float]]]:
        """Histograms of what came between the samples, one a value of `label`: (upper bound, count up to it).

        Without those to which nothing came. Most of what a reading costs, so once over all series, and not at rest.
        """
        if self._before is None:
            return {}
        grown = {key for key, count in self._gains(f"{name}_count", label).items() if count > 0}
        if not grown:
            return {}
        counts: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        for sample, sign in ((self.after, 1), (self._before, -1)):
            for found, value in sample.series.get(f"{name}_bucket", ()):
                if found[label] in grown:
                    counts[found[label]][found["le"]] += sign * value
        return {key: sorted((float(bound), count) for bound, count in own.items()) for key, own in counts.items()}

    def _gains(self, name: str, label: str) -> dict[str, float]:
        gains: dict[str, float] = defaultdict(float)
        for sample, sign in ((self.after, 1), (self._before, -1)):
            for found, value in sample.series.get(name, ()) if sample else ():
                gains[found[label]] += sign * value
        return gains


def quantile(share: float, buckets: Sequence[tuple[float, float]]) -> float | None:
    """The value below which `share` (0 to 1) of a cumulative histogram lies; None if it is empty.

    Linear within a bucket and never above the last finite bound, as PromQL's histogram_quantile, so that
    `lab top` and the dashboards show the same figure.
    """
    if not buckets or buckets[-1][1] <= 0:
        return None
    rank = share * buckets[-1][1]
    for (lower, below), (upper, count) in pairwise([(0.0, 0.0), *buckets]):
        if count >= rank and count > below:
            return lower if upper == float("inf") else lower + (upper - lower) * (rank - below) / (count - below)
    return None


def _quantiles(buckets: Sequence[tuple[float, float]]) -> Quantiles | None:
    p50, p99 = quantile(0.5, buckets), quantile(0.99, buckets)
    return Quantiles(p50, p99) if p50 is not None and p99 is not None else None


def _seconds_per_request(change: Change) -> dict[str, float]:
    requests = change.gain("lab_requests_total")
    sums = {stage: change.gain("lab_stage_duration_seconds_sum", stage=stage) for stage in STAGES}
    return {stage: total / requests for stage, total in sums.items() if requests and total is not None}


def _queues(sample: Sample) -> list[Queue]:
    """One a listener."""
    limits = {_key(labels): value for labels, value in sample.series.get("lab_accept_queue_limit", ())}
    lengths = sample.series.get("lab_accept_queue_length", ())
    return [Queue(int(length), int(limits.get(_key(labels), 0))) for labels, length in lengths]


def _key(labels: Labels) -> str:
    return labels.get("listener", "")


def _names(sample: Sample) -> list[str]:
    """Return the names of the rows: the workers in order, and main first where the model gives it a part in serving."""
    workers = sorted((worker for worker in _states(sample) if worker != MAIN), key=_by_number)
    model = MODELS.get(sample.model)
    return [MAIN, *workers] if model is None or model.accepts == MAIN else workers


def _by_number(worker: str) -> tuple[int, str]:
    return (int(worker), "") if worker.isdecimal() else (0, worker)


def _states(sample: Sample) -> dict[str, dict[str, Any]]:
    return {str(entry.get("worker")): entry for entry in sample.state["workers"] if isinstance(entry, dict)}


def _worker(change: Change, name: str) -> WorkerReading:
    state = _states(change.after).get(name, {})
    all_requests = change.gain("lab_requests_total")
    requests = change.gain("lab_requests_total", worker=name)
    cpu = change.rate("lab_worker_cpu_seconds_total", worker=name)
    accepts = change.gain("lab_connections_accepted_total", worker=name)
    switches = change.gain("lab_worker_context_switches_total", worker=name, kind="voluntary")
    return WorkerReading(
        worker=name,
        kind=state.get("kind", "process"),
        pid=state.get("pid", change.after.state.get("pid") if name == MAIN else None),
        state=state.get("state"),
        connections=int(change.after.total("lab_connections_open", worker=name)),
        queue_depth=int(change.after.total("lab_queue_depth", worker=name)),
        requests_per_second=change.rate("lab_requests_total", worker=name),
        share=requests / all_requests if requests is not None and all_requests else None,
        cpu_percent=None if cpu is None else 100 * cpu,
        switches_per_accept=switches / accepts if accepts and switches is not None else None,
    )
