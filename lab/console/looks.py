"""Readings as they look in the drawing of a model: what to set on which of its names."""

from __future__ import annotations

from dataclasses import dataclass
from math import log10
from typing import TYPE_CHECKING

from lab.console.anatomy import shape_of, workers_of
from lab.top.readings import MAIN

if TYPE_CHECKING:
    from lab.console.anatomy import Shape
    from lab.top.readings import Queue, Reading, WorkerReading

MANY_QUEUED = 16
"""A hand-off queue of this many looks full: it has no limit but that of the connections."""
MANY_HANDSHAKES = 128
"""A SYN queue of this many looks full: its own limit is the host's, which no metric tells."""
NEARLY_FULL = 0.8


@dataclass(frozen=True, slots=True)
class Look:
    """Look of one part of the drawing: how full (0 … 1), its state, its words."""

    level: float | None = None
    state: str = ""
    texts: tuple[str, ...] = ()


def figures(reading: Reading) -> dict[str, Look]:
    """Return the look of each part of the drawing, by its name."""
    if not reading.up:
        return {}
    model, shown = reading.model, workers_of(reading)
    shape = shape_of(model, shown, reading.options)
    looks = {
        f"{model}-clients": Look(texts=(f"{reading.connections:,} open",)),
        f"{model}-syn": syn_look(reading.syn_queue_length),
        f"{model}-drops": drops_look(reading),
    }
    for number, queue in enumerate(reading.queues):
        looks[f"{model}-accept-{number}"] = queue_look(queue, dropping=bool(reading.drops_per_second))
    for worker in reading.workers:
        if worker.worker in shown:
            looks[f"{model}-worker-{worker.worker}"] = worker_look(worker)
            looks |= handoff(f"{model}-handoff-{worker.worker}", shape, worker.queue_depth, "private")
        elif shape.acceptor:
            looks[f"{model}-{MAIN}"] = Look(share(worker.cpu_percent), "", (percent(worker.cpu_percent),))
            looks |= handoff(f"{model}-handoff-shared", shape, worker.queue_depth, "shared")
    return looks


def queue_look(queue: Queue, *, dropping: bool) -> Look:
    """An accept queue: red while it drops."""
    full = queue.length / queue.limit if queue.limit else 0.0
    state = "bad" if (dropping and full >= 1) or queue.full else "warn" if full > NEARLY_FULL else ""
    return Look(min(1.0, full), state, (f"{queue.length} / {queue.limit}",))


def syn_look(length: int) -> Look:
    """Handshakes that are not complete."""
    return Look(min(1.0, length / MANY_HANDSHAKES), "", (str(length),))


def drops_look(reading: Reading) -> Look:
    """Connections that found the queue full; nothing where there were none."""
    if not reading.drops:
        return Look(texts=("",))
    rate = reading.drops_per_second
    now = f" · {rate:,.0f}/s" if rate else ""
    return Look(None, "bad" if rate else "past", (f"✕ {reading.drops:,} dropped{now}",))


def handoff(name: str, shape: Shape, depth: int, kind: str) -> dict[str, Look]:
    """A hand-off queue, where the model has one of that kind."""
    if shape.handoff != kind:
        return {}
    return {name: Look(min(1.0, depth / MANY_QUEUED), "warn" if depth >= MANY_QUEUED else "", (str(depth),))}


def worker_look(worker: WorkerReading) -> Look:
    """A worker: filled as far as its processor time, coloured by its state."""
    rate = "–" if worker.requests_per_second is None else f"{worker.requests_per_second:,.0f}/s"
    states = {"stalled": "bad", "crashed": "bad", "gone": "bad", "busy": "busy"}
    name = "" if worker.worker == MAIN else worker.worker
    return Look(
        level=share(worker.cpu_percent),
        state=states.get(worker.state or "", ""),
        texts=(f"{name} {worker.state or ''}".strip(), f"{worker.connections} conn", rate),
    )


def flows(reading: Reading) -> dict[str, int]:
    """Return the speed of the dots along the way to each part: 0 (none) to 3; by the part's name."""
    if not reading.up:
        return {}
    model, accepts = reading.model, speed(reading.accepts_per_second)
    hands = shape_of(model, workers_of(reading), reading.options).hands
    found = {f"{model}-syn": accepts} | {f"{model}-accept-{number}": accepts for number in range(len(reading.queues))}
    found |= {f"{model}-{MAIN}": accepts, f"{model}-handoff-shared": speed(reading.requests_per_second)}
    for worker in reading.workers:
        rate = speed(worker.requests_per_second)
        handed_off = rate if hands == "requests" else min(accepts, rate)
        found |= {f"{model}-worker-{worker.worker}": rate, f"{model}-handoff-{worker.worker}": handed_off}
    return found


def speed(rate: float | None) -> int:
    """One for a few a second, two for tens, three for hundreds and more."""
    return 0 if not rate or rate < 0.5 else min(3, 1 + int(log10(max(1.0, rate))))


def share(cpu_percent: float | None) -> float:
    """Of a core, 0 to 1."""
    return min(1.0, (cpu_percent or 0) / 100)


def percent(value: float | None) -> str:
    """Of a core; a dash where it is not known yet."""
    return "–" if value is None else f"{value:.0f} % CPU"
