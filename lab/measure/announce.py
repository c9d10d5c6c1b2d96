"""While the stack is up, a run is seen there: in Prometheus as series, in Grafana as a region on the time axis.

Prometheus finds the run by a file of targets that is there as long as the run is; in containers, where it is asked by
name, `LAB_EXPERIMENTS_LISTEN` says where to answer. Neither is needed: without them a run is a run all the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Enum, Gauge, start_http_server
from prometheus_client.registry import Collector

from lab.measure.verdict import FAILS, HOLDS, INCONCLUSIVE
from lab.peers.process import accepts, free_port
from lab.settings import HOST, PROMETHEUS, STATE_DIR, SettingError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

TARGETS = STATE_DIR / "prometheus" / "targets"
LISTEN = "LAB_EXPERIMENTS_LISTEN"
LOADS_LISTEN = "LAB_LOADS_LISTEN"
"""In containers, where Prometheus asks by name: the host and the ports of which each load takes one."""
SEEN_SECONDS = 8.0
"""How long the verdict stays to be seen at most: Prometheus looks for new targets every 5 s, and asks every second."""
POLL_SECONDS = 0.05
RUNNING = "running"


@dataclass(frozen=True, slots=True)
class Announcement:
    """What Prometheus sees of one run."""

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
    listen = os.environ.get(LISTEN)
    here = TARGETS.is_dir() and accepts(PROMETHEUS.number)
    if not listen and not here:
        yield False
        return
    host, port = _address(listen) if listen else (HOST, 0)
    server, thread = start_http_server(port, host, registry)
    try:
        with contextlib.nullcontext() if listen else _target(f"{host}:{server.server_port}", "experiments"):
            yield True
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def load_address(run: str) -> Iterator[tuple[str, int] | None]:
    """Yield where a load is to serve its metrics so that Prometheus finds it; None where there is no Prometheus.

    Raises SettingError for a wrong LAB_LOADS_LISTEN.
    """
    listen = os.environ.get(LOADS_LISTEN)
    if listen:
        yield _first_free(listen)
    elif TARGETS.is_dir() and accepts(PROMETHEUS.number):
        port = free_port()
        with _target(f"{HOST}:{port}", "loads", f"load-{run}"):
            yield HOST, port
    else:
        yield None


def _first_free(listen: str) -> tuple[str, int] | None:
    """Return the first free port of `HOST:FIRST-LAST`; None if none is, so that the load is not seen."""
    wrong = SettingError(f"{LOADS_LISTEN}={listen!r}: give HOST:FIRST-LAST, for example 0.0.0.0:9111-9115")
    host, _, ports = listen.rpartition(":")
    first, dash, last = ports.partition("-")
    ends = [first, last] if dash else [first, first]
    if not host or not all(end.isdecimal() and 0 < int(end) < 65536 for end in ends):
        raise wrong
    for port in range(int(ends[0]), int(ends[1]) + 1):
        try:
            with socket.create_server((host, port)):
                return host, port
        except OSError:  # another load's
            continue
    return None


@contextlib.contextmanager
def _target(address: str, job: str, instance: str = "") -> Iterator[None]:
    """A file that names the run to Prometheus. Those of runs that were killed are removed by the next.

    Its lock, which the kernel takes from whoever dies, says that the run lives: a process's number is used again.
    """
    for file in TARGETS.glob(f"{job}-*.yml"):
        if _is_left_over(file):
            file.unlink(missing_ok=True)
    file = TARGETS / f"{job}-{os.getpid()}.yml"
    new = file.with_suffix(".new")
    with new.open("w", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        # JSON is YAML, too.
        json.dump([{"targets": [address], "labels": {"instance": instance or job}}], stream)
        stream.flush()
        new.replace(file)
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


def _is_left_over(file: Path) -> bool:
    try:
        with file.open(encoding="utf-8") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # locked, or gone
        return False
    return True


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
