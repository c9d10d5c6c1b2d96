"""The server's side of a load, read from its admin port each second: nothing here needs Prometheus.

The admin port is a thread of the server's main process, so a server that is stopped does not respond there either;
such a second is left out of the series.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Self

from lab import settings
from lab.top.readings import STAGES, Change, quantile, read
from lab.top.samples import Sample, Source, take

if TYPE_CHECKING:
    from lab.top.readings import Reading

INTERVAL_SECONDS = 1.0
MOST_READINGS = 3600
EARLY_SECONDS = 30.0
"""Samples of so many seconds are kept whole: one of them is the last before the load, which begins within this."""
SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


class Watch:
    """Samples of one server from `__enter__` to `__exit__`, taken by a thread of its own."""

    def __init__(self, model: str) -> None:
        self._source = Source(model, f"http://{settings.host_of(model)}:{settings.ADMIN_PORTS[model].number}")
        self._early: list[Sample] = []
        self._last: Sample | None = None
        self._readings: list[tuple[float, Reading]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch {model}", daemon=True)

    def __enter__(self) -> Self:
        self._take()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._take()

    def _run(self) -> None:
        while not self._over.wait(INTERVAL_SECONDS):
            self._take()

    def _take(self) -> None:
        sample = take(self._source)
        if sample.problem:
            return
        if self._last is not None and len(self._readings) < MOST_READINGS:
            self._readings.append((sample.taken, read(self._last, sample)))
        if not self._early or sample.taken - self._early[0].taken < EARLY_SECONDS:
            self._early.append(sample)
        self._last = sample

    def document(self, began: float, ended: float) -> dict[str, Any]:
        """Return what the server did between two monotonic times, within a second; empty where it never responded."""
        if self._last is None:
            return {}
        before = next((sample for sample in reversed(self._early) if sample.taken <= began), self._early[0])
        during = [(taken, each) for taken, each in self._readings if began < taken <= ended + INTERVAL_SECONDS]
        return {
            **_totals(Change(before, self._last)),
            "queue_max": max((each.accept_queue.length for _, each in during), default=0),
            "series": [_point(taken - began, each) for taken, each in during],
        }


def _totals(change: Change) -> dict[str, Any]:
    buckets = change.buckets("lab_stage_duration_seconds", "stage")
    workers = {labels.get("worker", ""): 0.0 for labels, _ in change.after.series.get("lab_requests_total", ())}
    return {
        "cpu_seconds": change.gain("lab_worker_cpu_seconds_total"),
        "drops": change.gain("lab_listener_drops_total"),
        "requests": change.gain("lab_requests_total"),
        "stages": {
            stage: {name: quantile(share, buckets[stage]) for name, share in SHARES.items()}
            for stage in STAGES
            if buckets.get(stage)
        },
        "workers": {worker: change.gain("lab_requests_total", worker=worker) for worker in workers},
    }


def _point(second: float, reading: Reading) -> dict[str, Any]:
    return {
        "second": round(second, 3),
        "requests_per_second": reading.requests_per_second,
        "accept_queue": reading.accept_queue.length,
        "worker_queue": sum(worker.queue_depth for worker in reading.workers),
        "connections": reading.connections,
        "drops_per_second": reading.drops_per_second,
        "cpu_ratio": sum(worker.cpu_percent or 0.0 for worker in reading.workers) / 100,
    }
