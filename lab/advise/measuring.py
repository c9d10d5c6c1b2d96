"""The same load on one application behind many servers, in turns, and which of their figures differ.

Each round starts every server anew and puts two loads on it. As fast as it goes: `CONNECTIONS` clients that send their
next request when they have a response, on the cheap routes alone; this says what the server can do. Then steadily: the
same arrivals for every server (Poisson, so that none waits for a response), on the cheap routes at `rate` in all, and
on the blocking ones at `blocking_rate`; this says what a request has to wait for. Where the user names no rates, a
server that is tried before the rounds gives them: half of the cheap requests that it could serve (at the most
`MOST_RATE`, or the generator would be measured), and so many blocking ones as keep one worker busy half of the time.

The generator has a core of its own where the machine has more than two.

The document (`lab advise --json`): `environment`; `application`, `routes` ({cheap, blocking}), `rates` (a second);
`left_out`, servers that do not serve the application, and why; `others_cpu_ratio`, the processor time that other
programs took; `rows`: {server, workers, kind, failed, figures} with {median, min, max, unit, n} of each figure; and
`findings` (lab/advise/finding.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

import httpx

from lab import machines
from lab.advise.finding import findings
from lab.advise.servers import Candidate, candidates
from lab.bench.servers import roles
from lab.load.plan import Plan, Stream, merged
from lab.measure import environment, processes
from lab.measure.difference import Figure, figure_of
from lab.measure.foreign_cpu import ForeignCpu
from lab.peers.application import Application
from lab.peers.process import PeerError

if TYPE_CHECKING:
    from lab.peers.process import Peer

Progress = Callable[[str], None]

CONNECTIONS = 16
BLOCKING_CONNECTIONS = 64
"""Of the open streams: as many requests can be under way at once."""
MOST_RATE = 500.0
WARM_UP_SECONDS = 0.5
PROBES = 5
ASK_SECONDS = 30.0
CORES_TO_SHARE_OUT = 3
UNITS = {
    "requests a second": "1/s",
    "CPU µs a request": "us",
    "cheap p50 ms": "ms",
    "cheap p99 ms": "ms",
    "blocking p99 ms": "ms",
    "memory MiB": "MiB",
}
"""Figures of a row, and their units."""
MIB = 2**20


class AdviceError(Exception):
    """Nothing can be measured; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question: an application, its routes, and how much effort the response is worth."""

    application: Application
    cheap: tuple[str, ...]
    blocking: tuple[str, ...] = ()
    workers: tuple[int, ...] = ()
    """Numbers of workers of each model; one, the cores and twice the cores if empty."""
    servers: tuple[str, ...] = ()
    """Models and peers; all that are there if empty."""
    rounds: int = 5
    seconds: float = 2.0
    rate: float = 0.0
    """Cheap requests a second in the steady load; 0: half of what a server could do."""
    blocking_rate: float = 0.0


@dataclass(slots=True)
class Measured:
    """A candidate's figures, a value a round, and its requests without a good response."""

    candidate: Candidate
    values: dict[str, list[float]] = field(default_factory=dict)
    failed: int = 0

    def figures(self) -> dict[str, Figure]:
        """Return each figure with its spread."""
        return {name: figure_of(values, UNITS[name]) for name, values in self.values.items()}


def run(question: Question, progress: Progress) -> dict[str, Any]:
    """Measure, and return the document that is described above. Raises AdviceError, PeerError."""
    if not machines.LINUX:
        raise AdviceError("servers are measured on Linux, on the machine itself: run `lab advise` there")
    cpus, others = share_out(machines.cpus()), ForeignCpu(machines.cpus())
    cores = len(machines.cpus())
    tried = [
        candidate
        for candidate in candidates(question.application, question.workers or (1, cores, 2 * cores), cores)
        if not question.servers or candidate.server in question.servers
    ]
    if not tried:
        raise AdviceError(
            f"none of {', '.join(question.servers)} is installed: `make bench` installs gunicorn and uvicorn"
        )
    progress(f"trying {tried[0].name}")
    rates = rates_for(question, tried[0], cpus)
    left_out: dict[str, str] = {}
    measured = {candidate.name: Measured(candidate) for candidate in tried}
    for number in range(question.rounds):
        for each in measured.values():
            if each.candidate.name not in left_out:
                progress(f"round {number + 1} of {question.rounds}: {each.candidate.name}")
                make_round(question, rates, each, cpus, left_out)
    rows = [each for each in measured.values() if each.candidate.name not in left_out]
    return {
        "environment": environment.describe(),
        "application": question.application.spec,
        "routes": {"cheap": list(question.cheap), "blocking": list(question.blocking)},
        "rates": rates,
        "seconds": question.seconds,
        "left_out": [{"server": name, "why": why} for name, why in left_out.items()],
        "others_cpu_ratio": others.share(),
        "rows": [as_row(each) for each in rows],
        "findings": findings({each.candidate: each.figures() for each in rows}),
    }


def as_row(each: Measured) -> dict[str, Any]:
    """Return a candidate's row of the document."""
    figures = {name: figure.summary for name, figure in each.figures().items()}
    candidate = each.candidate
    return {
        "server": candidate.server, "workers": candidate.workers, "kind": candidate.kind, "failed": each.failed,
        "figures": figures,
    }  # fmt: skip


def share_out(cpus: set[int]) -> tuple[set[int] | None, set[int] | None]:
    """Return the processors of the server and of the generator; None where both have all."""
    if len(cpus) < CORES_TO_SHARE_OUT:
        return None, None
    return cpus - {max(cpus)}, {max(cpus)}


def rates_for(
    question: Question, candidate: Candidate, cpus: tuple[set[int] | None, set[int] | None]
) -> dict[str, float]:
    """Return arrivals a second on the cheap and the blocking routes. Raises AdviceError where one does not respond."""
    with candidate.start(cpus[0]) as peer:
        for path in (*question.cheap, *question.blocking):
            if refusal := wrong_with(peer, path):
                raise AdviceError(f"{question.application.spec} behind {candidate.name}: {refusal}")
        could = completed_in(loaded(peer, [closed(path, question) for path in question.cheap], question, cpus))
        seconds = (
            median(asked_seconds(peer, path) for path in question.blocking for _ in range(PROBES))
            if question.blocking
            else 1.0
        )
    if not could:
        raise AdviceError(f"no cheap request was served within {question.seconds:g} s: give longer --seconds")
    return {
        "cheap": question.rate or min(MOST_RATE, could / question.seconds / 2),
        "blocking": (question.blocking_rate or 0.5 / seconds) if question.blocking else 0.0,
    }


def make_round(
    question: Question, rates: dict[str, float], each: Measured, cpus: tuple[set[int] | None, set[int] | None],
    left_out: dict[str, str],
) -> None:  # fmt: skip
    """Start the candidate, load it twice, and note what came out; or why it is left out."""
    try:
        with each.candidate.start(cpus[0]) as peer:
            for path in (*question.cheap, *question.blocking):
                if refusal := wrong_with(peer, path):
                    left_out[each.candidate.name] = refusal
                    return
            note_capacity(question, each, peer, cpus)
            note_waiting(question, rates, each, peer, cpus)
    except PeerError as error:
        if each.candidate.kind == "model":
            raise
        left_out[each.candidate.name] = str(error).splitlines()[-1]


def note_capacity(question: Question, each: Measured, peer: Peer, cpus: Any) -> None:
    """Load as fast as it goes."""
    serving, _ = roles(peer)  # without what only watches: gunicorn and uvicorn have nothing like it
    before = processes.cpu_seconds(serving)
    result = loaded(peer, [closed(path, question) for path in question.cheap], question, cpus)
    used = processes.cpu_seconds(serving) - before
    completed = completed_in(result)
    note(each, "requests a second", completed / question.seconds)
    # Processor time is of the warm-up, too, in which the requests are not counted but are as many a second.
    counted_share = question.seconds / (question.seconds + WARM_UP_SECONDS)
    note(each, "CPU µs a request", used * counted_share * 1e6 / max(1.0, completed))
    each.failed += failed_in(result)


def note_waiting(question: Question, rates: dict[str, float], each: Measured, peer: Peer, cpus: Any) -> None:
    """Load steadily."""
    streams = [
        Stream(f"{kind} {path}", path, rate=rates[kind] / len(paths), connections=connections)
        for kind, paths, connections in (
            ("cheap", question.cheap, CONNECTIONS), ("blocking", question.blocking, BLOCKING_CONNECTIONS),
        )
        for path in paths
    ]  # fmt: skip
    result = loaded(peer, streams, question, cpus)
    for kind, shares in (("cheap", {"p50": 0.5, "p99": 0.99}), ("blocking", {"p99": 0.99})):
        times = merged(stream["intended"] for stream in result["streams"] if stream["name"].startswith(kind))
        for name, share in shares.items():
            if (seconds := times.quantile(share)) is not None:
                note(each, f"{kind} {name} ms", seconds * 1000)
    serving, _ = roles(peer)
    note(each, "memory MiB", processes.pss_bytes(serving) / MIB)
    each.failed += failed_in(result)


def note(each: Measured, figure: str, value: float) -> None:
    """Add one round's value."""
    each.values.setdefault(figure, []).append(value)


def closed(path: str, question: Question) -> Stream:
    """Return the clients of one cheap route that wait for each response."""
    return Stream(path, path, connections=max(1, CONNECTIONS // len(question.cheap)))


def loaded(peer: Peer, streams: Sequence[Stream], question: Question, cpus: Any) -> dict[str, Any]:
    """Run the generator in a process of its own; its document. Raises AdviceError."""
    plan = Plan(peer.host, peer.port, tuple(streams), question.seconds, WARM_UP_SECONDS)
    done = subprocess.run(
        [sys.executable, "-m", "lab.load.generator", json.dumps(asdict(plan))],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, cpus[1] or os.sched_getaffinity(0)),
    )  # fmt: skip
    if done.returncode:
        words = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        raise AdviceError(f"the load generator failed: {words[-1]}")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def completed_in(result: dict[str, Any]) -> float:
    """Return the responses of all streams."""
    return float(sum(stream["completed"] for stream in result["streams"]))


def failed_in(result: dict[str, Any]) -> int:
    """Return the requests of all streams without a good response."""
    return sum(
        stream["unanswered"] + stream["dropped"] + sum(stream["errors"].values())
        + sum(count for status, count in stream["statuses"].items() if int(status) >= httpx.codes.BAD_REQUEST)
        for stream in result["streams"]
    )  # fmt: skip


def wrong_with(peer: Peer, path: str) -> str:
    """Return the fault of the response to `path`, or that there is none; empty where it is good."""
    try:
        response = httpx.get(f"http://{peer.host}:{peer.port}{path}", timeout=ASK_SECONDS, trust_env=False)
    except httpx.HTTPError as error:
        return f"no response to GET {path}: {error}"
    if response.status_code >= httpx.codes.BAD_REQUEST:
        return f"GET {path} had a response {response.status_code}"
    return ""


def asked_seconds(peer: Peer, path: str) -> float:
    """Return how long one request takes that nothing else disturbs."""
    begun = time.monotonic()
    httpx.get(f"http://{peer.host}:{peer.port}{path}", timeout=ASK_SECONDS, trust_env=False)
    return time.monotonic() - begun
