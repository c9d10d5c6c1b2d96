"""Sample of an admin endpoint at one moment: `/state` and `/metrics`, read together.

Nothing is asked of the service port, so watching never waits in the queue that is being watched.
"""

from __future__ import annotations

import http.client
import json
import time
from collections import defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

from prometheus_client.parser import text_string_to_metric_families

ANSWER_SECONDS = 2.0
"""A server that is stopped or starved keeps the others waiting no longer than this."""

# Without this, a proxy from the environment would be asked for 127.0.0.1.
_opener = build_opener(ProxyHandler({}))

Labels = dict[str, str]


@dataclass(frozen=True, slots=True)
class Source:
    """A server to watch: what to call it while it does not answer, and its admin endpoint."""

    name: str
    url: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at one server."""

    source: Source
    taken: float
    """Monotonic seconds."""
    problem: str = ""
    """Reason that there are no figures; empty if there are."""
    state: dict[str, Any] = field(default_factory=dict)
    series: dict[str, list[tuple[Labels, float]]] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """The model, by its own word where it has one."""
        return str(self.state.get("model", self.source.name))

    def total(self, name: str, **labels: str) -> float:
        """The sum of `name` over all series that carry `labels`; 0 where there is none."""
        wanted = labels.items()
        return sum(value for found, value in self.series.get(name, ()) if wanted <= found.items())


def take(source: Source) -> Sample:
    """Ask the endpoint. A server that is down is a sample too: it never raises for what a server does."""
    try:
        state = json.loads(_get(f"{source.url}/state"))
        series = parse(_get(f"{source.url}/metrics"))
        if not isinstance(state, dict) or not isinstance(state.get("workers"), list):
            return Sample(source, time.monotonic(), "answers, but not as a model's admin port")
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Sample(source, time.monotonic(), _why(error))
    return Sample(source, time.monotonic(), state=state, series=series)


def late(source: Source) -> Sample:
    """The sample of a server that has not answered in time."""
    return Sample(source, time.monotonic(), f"no answer within {ANSWER_SECONDS:g} s")


def take_state(source: Source) -> dict[str, Any]:
    """Only `/state`, which is much cheaper. Raises OSError, HTTPException or ValueError."""
    state: dict[str, Any] = json.loads(_get(f"{source.url}/state"))
    return state


def parse(text: str) -> dict[str, list[tuple[Labels, float]]]:
    """The series of an exposition by name. Raises ValueError for what is none."""
    series: dict[str, list[tuple[Labels, float]]] = defaultdict(list)
    for line in text.splitlines():
        if line and not line.startswith("#"):
            head, _, value = line.rpartition(" ")
            name, labels = _identity(head)
            series[name].append((labels, float(value)))
    return dict(series)


# A model has about a thousand series and their names never change, but the parser takes 25 µs a line:
# parsing all of it each second would cost five models 14 % of a core. So only new names are parsed.
@lru_cache(maxsize=100_000)
def _identity(head: str) -> tuple[str, Labels]:
    for family in text_string_to_metric_families(f"{head} 0\n"):
        for sample in family.samples:
            return sample.name, sample.labels
    raise ValueError(f"not a metric: {head!r}")


def _get(url: str) -> str:
    with _opener.open(url, timeout=ANSWER_SECONDS) as answer:
        body: bytes = answer.read()
    return body.decode()


def _why(error: Exception) -> str:
    """A few words for a person: what went wrong, not where in our code."""
    if isinstance(error, HTTPError):
        return f"answers, but not as a model's admin port ({error.code})"
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, TimeoutError):
        return f"no answer within {ANSWER_SECONDS:g} s"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror.lower()
    if isinstance(reason, (ValueError, http.client.HTTPException)):
        return "answers, but not as a model's admin port"
    return str(reason)


def source_of(url: str) -> Source:
    """The server behind an admin URL. Raises ValueError if it is none."""
    try:
        scheme, host, port = (parts := urlsplit(url)).scheme, parts.hostname, parts.port
    except ValueError:  # no number, or out of range
        scheme, host, port = "", "", None
    if scheme != "http" or not host or not port:
        raise ValueError(f"{url!r}: give the admin URL that the server printed, such as http://127.0.0.1:9100")
    return Source(f"port {port}", f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
