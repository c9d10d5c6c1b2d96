"""While the stack is up, a run is seen there: in Prometheus as series, in Grafana as a region on the time axis.

Prometheus finds the run by a file of targets that is there as long as the run is; in containers, where it is asked by
name, `LAB_EXPERIMENTS_LISTEN` says where to answer. Neither is needed: without them a run is a run all the same.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Enum, Gauge, start_http_server
from prometheus_client.registry import Collector

from lab.harness.verdict import FAILS, HOLDS, INCONCLUSIVE
from lab.measure import targets
from lab.peers.process import accepts
from lab.settings import HOST, PROMETHEUS, SettingError, variable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

LISTEN = "LAB_EXPERIMENTS_LISTEN"
SEEN_SECONDS = 8.0
"""Longest time that the verdict stays to be seen: Prometheus looks for new targets every 5 s, and asks every second."""
POLL_SECONDS = 0.05
RUNNING = "running"


@dataclass(frozen=True, slots=True)
class Announcement:
    """Metrics of one run, for Prometheus."""

    name: str
    _progress: Gauge
    _state: Enum

    def progress(self, share: float) -> None:
        """So much is done, 0 to 1."""
        self._progress.labels(self.name).set(share)

    def verdict(self, word: str) -> None:
        """That is what it came to."""
        self._state.labels(self.name).state(word)


class Scrapes(Collector):
    """Counts how often it was asked."""

    def __init__(self) -> None:
        self._count = 0

    def collect(self) -> Iterator[Metric]:
        """Called for each scrape."""
        self._count += 1
        return iter(())

    def wait_for_another(self, seconds: float) -> None:
        """Return after the next scrape, or after so long."""
        before, deadline = self._count, time.monotonic() + seconds
        while self._count == before and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def announced(name: str) -> Iterator[Announcement]:
    """A run that Prometheus sees, if there is one. Raises SettingError for a wrong LAB_EXPERIMENTS_LISTEN."""
    registry = CollectorRegistry()
    progress = Gauge(
        "lab_experiment_progress_ratio", "Share of the run that is done", ["experiment"], registry=registry
    )
    states = [RUNNING, HOLDS, FAILS, INCONCLUSIVE]
    state = Enum("lab_experiment_state", "How the run is", ["experiment"], states=states, registry=registry)
    announcement = Announcement(name, progress, state)
    announcement.progress(0)
    announcement.verdict(RUNNING)
    scrapes = Scrapes()
    registry.register(scrapes)
    with _served(registry) as seen:
        yield announcement
        if seen:
            scrapes.wait_for_another(SEEN_SECONDS)


@contextlib.contextmanager
def _served(registry: CollectorRegistry) -> Iterator[bool]:
    """`registry` where Prometheus finds it; whether there is one."""
    listen = variable(LISTEN)
    here = targets.TARGETS.is_dir() and accepts(PROMETHEUS.number)
    if not listen and not here:
        yield False
        return
    host, port = _address(listen) if listen else (HOST, 0)
    server, thread = start_http_server(port, host, registry)
    try:
        with contextlib.nullcontext() if listen else targets.target(f"{host}:{server.server_port}", "experiments"):
            yield True
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _address(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise SettingError(f"{LISTEN}={listen!r}: give HOST:PORT, for example 127.0.0.1:9110")
    return host, int(port)


def annotate(document: dict[str, Any], begun_seconds: float) -> None:
    """Mark the run's time in Grafana, if one answers; `begun_seconds` since the epoch."""
    from lab.grafana.annotate import mark

    text = f"{document['experiment']}: {document['verdict']}\n{document['question']}"
    mark(text, ["experiment", document["experiment"], document["verdict"]], begun_seconds, time.time())
