"""The drawing of a model: clients → SYN queue → accept queue → who accepts → hand-off → workers → answers.

The drawing is the difference between the models. `draw` makes it once, as SVG with an id for everything that
moves; `figures` says how a reading looks in it, as what to set on which id. So a browser gets the drawing
once and a few numbers a second, and can animate the way from one to the next.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

from lab.top.readings import MAIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lab.top.readings import Queue, Reading, WorkerReading

WIDTH, ROW_HEIGHT, TOP = 960, 46, 40
"""Of the drawing, in its own units: it grows with the page, and a row with each worker."""
COLUMNS = {"clients": 20, "syn": 120, "accept": 250, "acceptor": 420, "handoff": 560, "worker": 700, "out": 900}
"""Where each part begins."""
BAR_WIDTH, WORKER_WIDTH = 110, 170
MANY_QUEUED = 16
"""A hand-off queue of this many looks full: it has no limit but that of the connections."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What distinguishes the drawings."""

    queues: str
    """ "one" accept queue, or "each": one a worker."""
    acceptor: str
    """What to call main where it accepts; empty where workers do."""
    handoff: str
    """ "" (none), "private" (a queue a worker) or "shared"."""
    workers: str
    """What to call a worker."""


SHAPES = {
    "nodejs": Shape("one", "", "", "loop"),
    "memcached": Shape("one", "acceptor", "private", "worker"),
    "ramcloud": Shape("one", "dispatcher", "shared", "worker"),
    "nginx": Shape("one", "", "", "worker"),
    "reuseport": Shape("each", "", "", "worker"),
}


@dataclass(frozen=True, slots=True)
class Look:
    """How one part of the drawing looks now: how full (0 … 1), in which state, with which words."""

    level: float | None = None
    state: str = ""
    text: str | None = None


@dataclass(slots=True)
class Svg:
    """Elements, one after the other."""

    parts: list[str] = field(default_factory=list)

    def bar(self, name: str, x: float, y: float, width: float, label: str) -> None:
        """A queue or a worker: a box that fills from the left, a label above, and a figure in it."""
        self.parts.append(
            f'<g id="{name}" class="part"><text class="label" x="{x}" y="{y - 5}">{escape(label)}</text>'
            f'<rect class="box" x="{x}" y="{y}" width="{width}" height="22" rx="3"/>'
            f'<rect class="fill" x="{x}" y="{y}" width="{width}" height="22" rx="3" style="transform-origin:{x}px 0"/>'
            f'<text class="figure" x="{x + 6}" y="{y + 16}" id="{name}-text"></text></g>'
        )

    def arrow(self, x1: float, y1: float, x2: float, y2: float) -> None:
        """The way that connections, or requests, take."""
        middle = (x1 + x2) / 2
        self.parts.append(f'<path class="way" d="M{x1},{y1} C{middle},{y1} {middle},{y2} {x2},{y2}"/>')


def draw(model: str, workers: Sequence[str]) -> str:
    """The SVG of a model with these workers (`main`, or `0`, `1`, …), all of it at rest."""
    shape, rows = SHAPES[model], max(1, len(workers))
    height = TOP + rows * ROW_HEIGHT
    middle = TOP + (rows - 1) * ROW_HEIGHT / 2
    svg, at = Svg(), COLUMNS
    row_of = {worker: TOP + place * ROW_HEIGHT for place, worker in enumerate(workers)}
    queue_rows = list(row_of.values()) if shape.queues == "each" else [middle]
    svg.bar(f"{model}-clients", at["clients"], middle, 80, "clients")
    svg.bar(f"{model}-syn", at["syn"], middle, BAR_WIDTH, "SYN queue")
    svg.arrow(at["clients"] + 80, middle + 11, at["syn"], middle + 11)
    for number, y in enumerate(queue_rows):
        svg.bar(f"{model}-accept-{number}", at["accept"], y, BAR_WIDTH, "accept queue" if y == queue_rows[0] else "")
        svg.arrow(at["syn"] + BAR_WIDTH, middle + 11, at["accept"], y + 11)
    begin = at["accept"] + BAR_WIDTH
    if shape.acceptor:
        svg.bar(f"{model}-{MAIN}", at["acceptor"], middle, 100, shape.acceptor)
        svg.arrow(begin, middle + 11, at["acceptor"], middle + 11)
        begin = at["acceptor"] + 100
    if shape.handoff == "shared":
        svg.bar(f"{model}-handoff-shared", at["handoff"], middle, 90, "requests wait")
        svg.arrow(begin, middle + 11, at["handoff"], middle + 11)
        begin = at["handoff"] + 90
    for place, (worker, y) in enumerate(row_of.items()):
        source = y if shape.queues == "each" else middle
        if shape.handoff == "private":
            svg.bar(f"{model}-handoff-{worker}", at["handoff"], y, 90, "handed off" if place == 0 else "")
            svg.arrow(begin, middle + 11, at["handoff"], y + 11)
            svg.arrow(at["handoff"] + 90, y + 11, at["worker"], y + 11)
        else:
            svg.arrow(begin, source + 11, at["worker"], y + 11)
        svg.bar(f"{model}-worker-{worker}", at["worker"], y, WORKER_WIDTH, shape.workers if place == 0 else "")
        svg.arrow(at["worker"] + WORKER_WIDTH, y + 11, at["out"], y + 11)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="{model}-title" class="anatomy">'
        f'<title id="{model}-title">How {escape(model)} accepts and serves connections</title>{"".join(svg.parts)}</svg>'
    )


def workers_of(reading: Reading) -> list[str]:
    """Who stands on the right of the drawing: those who serve; main where nobody else does."""
    names = [worker.worker for worker in reading.workers]
    others = [name for name in names if name != MAIN]
    return others or names


def figures(reading: Reading) -> dict[str, Look]:
    """How each part of the drawing looks, by its id."""
    model, shape = reading.model, SHAPES[reading.model]
    if not reading.up:
        return {}
    shown = set(workers_of(reading))
    looks = {
        f"{model}-clients": Look(text=f"{reading.connections} open"),
        f"{model}-syn": Look(level=min(1.0, reading.syn_queue_length / 128), text=str(reading.syn_queue_length)),
    }
    for number, queue in enumerate(reading.queues):
        looks[f"{model}-accept-{number}"] = queue_look(queue, dropping=bool(reading.drops_per_second))
    for worker in reading.workers:
        if worker.worker in shown:
            looks[f"{model}-worker-{worker.worker}"] = worker_look(worker)
            looks |= handoff(f"{model}-handoff-{worker.worker}", shape, worker.queue_depth, "private")
        elif shape.acceptor:
            looks[f"{model}-{MAIN}"] = Look(level=(worker.cpu_percent or 0) / 100, text=percent(worker.cpu_percent))
            looks |= handoff(f"{model}-handoff-shared", shape, worker.queue_depth, "shared")
    return looks


def queue_look(queue: Queue, *, dropping: bool) -> Look:
    """An accept queue: red while it drops."""
    share = queue.length / queue.limit if queue.limit else 0.0
    state = "bad" if dropping and share >= 1 or queue.full else "warn" if share > 0.8 else ""
    return Look(min(1.0, share), state, f"{queue.length} / {queue.limit}")


def handoff(name: str, shape: Shape, depth: int, kind: str) -> dict[str, Look]:
    """A hand-off queue, where the model has one of that kind."""
    if shape.handoff != kind:
        return {}
    return {name: Look(min(1.0, depth / MANY_QUEUED), "warn" if depth >= MANY_QUEUED else "", str(depth))}


def worker_look(worker: WorkerReading) -> Look:
    """A worker: filled as far as its processor time, coloured by its state."""
    rate = "–" if worker.requests_per_second is None else f"{worker.requests_per_second:,.0f}/s"
    states = {"stalled": "bad", "crashed": "bad", "gone": "bad", "busy": "busy"}
    return Look(
        level=min(1.0, (worker.cpu_percent or 0) / 100),
        state=states.get(worker.state or "", ""),
        text=f"{worker.worker}  {worker.connections} conn  {rate}",
    )


def percent(value: float | None) -> str:
    """Of a core; a dash where it is not known yet."""
    return "–" if value is None else f"{value:.0f} % CPU"


def as_updates(looks: Iterable[tuple[str, Look]]) -> dict[str, list[object]]:
    """What the page's script takes: id → [level, state, text]."""
    return {name: [look.level, look.state, look.text] for name, look in looks}
