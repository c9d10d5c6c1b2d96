"""A load that our own generator makes (generator.py), and what it measured: both travel as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from loadtests.histogram import Histogram

StoredHistogram = dict[str, Any]
"""A histogram as `Histogram.to_json` gives it."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Requests that are alike."""

    name: str = "all"
    path: str = "/"
    method: str = "GET"
    connections: int = 1
    rate: float = 0.0
    """Arrivals a second over all of the stream's connections; 0: a closed loop."""
    poisson: bool = True
    """True if the gaps between arrivals are exponential; otherwise they are all the same."""
    keep_alive: bool = True
    """Otherwise each request has a connection of its own."""
    think_seconds: float = 0.0
    """Of a closed loop: the mean of exponential pauses."""
    source: str = ""
    """The client's address; empty for the namespace's first."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A load. The first `warm_up_seconds` of it are not counted."""

    host: str
    port: int
    streams: tuple[Stream, ...]
    seconds: float
    warm_up_seconds: float = 0.5
    connect_gap_seconds: float = 0.0
    """Between the connects of two streams: where all come at once, the first worker awake may accept all of them."""
    seed: int = 1
    """Of arrivals and pauses, so that every arm meets the same ones."""


@dataclass
class StreamResult:
    """Result of one stream. Requests count if they were meant to start after the warm-up and before the end."""

    name: str
    open: bool = False
    """True if arrivals waited for nobody."""
    requests: int = 0
    """Answered, whenever that was."""
    completed: int = 0
    """Answered between warm-up and end, whenever they were meant to start: this, over the time, is the throughput."""
    unanswered: int = 0
    """Sent or waiting, and not answered before the grace at the end was over."""
    dropped: int = 0
    """Not even queued: too many were waiting."""
    errors: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    workers: Counter[str] = field(default_factory=Counter)
    """Responses by X-Worker."""
    mean_seconds: float = 0.0
    deviation_seconds: float = 0.0
    max_seconds: float = 0.0
    intended: StoredHistogram = field(default_factory=Histogram().to_json)
    """From the moment a request was meant to start to its last byte."""
    sent: StoredHistogram = field(default_factory=Histogram().to_json)
    """From the moment it was sent: what a generator that omits would report."""
    connect: StoredHistogram = field(default_factory=Histogram().to_json)
    """Of connects."""


def merged(parts: Iterable[StoredHistogram]) -> Histogram:
    """One histogram of several stored ones."""
    whole = Histogram()
    for part in parts:
        whole.add(Histogram.from_json(part))
    return whole


def read_plan(text: str) -> Plan:
    """The plan in a JSON document."""
    fields = json.loads(text)
    return Plan(**{**fields, "streams": tuple(Stream(**stream) for stream in fields["streams"])})
