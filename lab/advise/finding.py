"""Findings: which servers are best in a figure, which are worse beyond noise, and what explains it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from lab.measure.difference import RATIO, Figure, differences

if TYPE_CHECKING:
    from lab.advise.servers import Candidate
    from lab.measure.difference import Difference

Figures = Mapping[str, Figure]


class Reason(NamedTuple):
    """Likely reason for a worse figure, and the experiment that shows it."""

    text: str
    experiment: str


ONE_LOOP = Reason(
    "one loop executes everything, so a request that blocks holds up all others of its process: shorten it, move it "
    "elsewhere, or take a model with workers",
    "event-loop-blocking",
)
COPIES = Reason("its workers are processes, each with its own copy of what the application makes", "copy-on-write")
WAITING, CAPACITY, COST, MEMORY = "cheap p99 ms", "requests a second", "CPU µs a request", "memory MiB"
BLOCKING = "blocking p99 ms"
REASONS: dict[tuple[str, str], Reason] = {
    (WAITING, "nodejs"): ONE_LOOP,
    (WAITING, "uvicorn"): ONE_LOOP,
    (WAITING, "memcached"): Reason(
        "a connection stays with its worker, so those beside a request that blocks wait for it", "hot-connections"
    ),
    (WAITING, "nginx"): Reason(
        "a worker's own connections wait while it blocks, only new ones go to others: take more workers",
        "event-loop-blocking",
    ),
    (WAITING, "reuseport"): Reason(
        "the kernel goes on giving connections to a worker that blocks: take more workers, or a shared socket",
        "stalled-worker",
    ),
    (WAITING, "ramcloud"): Reason(
        "a request waits only while all workers are busy: take more workers", "dispatch-bottleneck"
    ),
    (CAPACITY, "ramcloud"): Reason(
        "all bytes pass one thread, and each request is handed over twice", "dispatch-bottleneck"
    ),
    (CAPACITY, "memcached"): Reason(
        "its workers are threads: with the GIL one of them executes Python at a time", "process-or-thread"
    ),
    (COST, "ramcloud"): Reason("each request is handed over twice", "dispatch-bottleneck"),
    **{(MEMORY, name): COPIES for name in ("nodejs", "nginx", "reuseport", "gunicorn-gthread", "uvicorn")},
}
"""By figure and server."""


def findings(rows: Mapping[Candidate, Figures]) -> list[dict[str, Any]]:
    """Return what differs: for each figure {figure, best, as_good, worse, undecided}.

    `worse` has {server, times, low, high, why, experiment} for each server that is worse than the best beyond noise;
    `as_good` names those that are not. All comparisons share one error level (lab/measure/difference.py).
    """
    asked = [
        (name, best, candidate)
        for name in dict.fromkeys(name for figures in rows.values() for name in figures)
        for best in [_best(name, rows)]
        for candidate, figures in rows.items()
        if candidate is not best and name in figures
    ]
    found = differences([(rows[best][name], rows[candidate][name]) for name, best, candidate in asked])
    made: dict[str, dict[str, Any]] = {}
    for (name, best, candidate), difference in zip(asked, found, strict=True):
        entry = made.setdefault(name, {"figure": name, "best": best.name, "as_good": [], "worse": [], "undecided": []})
        if difference.differs:
            entry["worse"].append(_worse(name, candidate, difference, blocking=BLOCKING in rows[best]))
        else:
            entry["undecided" if difference.differs is None else "as_good"].append(candidate.name)
    return list(made.values())


def _best(name: str, rows: Mapping[Candidate, Figures]) -> Candidate:
    medians = {candidate: figures[name].summary["median"] for candidate, figures in rows.items() if name in figures}
    return (max if name == CAPACITY else min)(medians, key=lambda candidate: medians[candidate])


def _worse(name: str, candidate: Candidate, difference: Difference, *, blocking: bool) -> dict[str, Any]:
    reason = REASONS.get((name, candidate.server)) if name != WAITING or blocking else None
    shown = 1.0 if difference.scale == RATIO else 0.0
    return {
        "server": candidate.name,
        "times": difference.value + shown,
        "low": difference.low + shown,
        "high": difference.high + shown,
        "why": reason.text if reason else None,
        "experiment": reason.experiment if reason else None,
    }
