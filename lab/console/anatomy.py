"""The drawing of a model: clients → SYN queue → accept queue → who accepts → hand-off → workers → responses.

The drawing is the difference between the models. `draw` makes it once, as SVG with a name on everything that moves;
`looks.figures` says how a reading looks in it, as what to set on which name. So a browser gets the drawing once and a
few numbers a second, and can animate the way from one to the next. There are two of each: one from left to right, and
one from top to bottom for a phone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

from lab.top.readings import MAIN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lab.top.readings import Reading

SLOTS = 16
"""Marks across a queue, so that it is seen to be one."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Differences between the drawings."""

    queues: str
    """ "one" accept queue, or "each": one a worker."""
    acceptor: str
    """Name of main where it accepts; empty where workers do."""
    handoff: str
    """ "" (none), "private" (a queue a worker) or "shared"."""
    workers: str
    """Name of a worker."""
    hands: str = "connections"
    """Thing that is handed off: "connections" or "requests"."""


SHAPES = {
    "nodejs": Shape("one", "", "", "loop"),
    "memcached": Shape("one", "acceptor", "private", "worker"),
    "ramcloud": Shape("one", "dispatcher", "shared", "worker", "requests"),
    "nginx": Shape("one", "", "", "worker"),
    "reuseport": Shape("each", "", "", "worker"),
}
VARIANTS = {
    ("nodejs", "scheduling", "round-robin"): Shape("one", "primary", "private", "loop"),
    ("ramcloud", "dispatch", "request-least-loaded"): Shape("one", "dispatcher", "private", "worker", "requests"),
    ("ramcloud", "dispatch", "connection"): Shape("one", "dispatcher", "private", "worker"),
}
"""Options that change the drawing. That of nodejs means something where it is a cluster."""


@dataclass(frozen=True, slots=True)
class Node:
    """One box: what it is called in `figures`, what it is, and the words above it."""

    name: str
    kind: str
    """ "clients", "queue", "thread" or "worker"."""
    label: str = ""


@dataclass(frozen=True, slots=True)
class Box:
    """Place of a node in the drawing, and of its words in it."""

    node: Node
    x: float
    y: float
    width: float
    height: float
    texts: tuple[tuple[float, float, str], ...]
    """x, y and anchor of each of the look's texts."""


def shape_of(model: str, workers: Sequence[str], options: dict[str, Any]) -> Shape:
    """The shape of a model with these options in force."""
    if list(workers) != [MAIN]:
        for (name, option, value), shape in VARIANTS.items():
            if name == model and options.get(option) == value:
                return shape
    return SHAPES[model]


def ranks(model: str, shape: Shape, workers: Sequence[str]) -> list[list[Node]]:
    """The nodes in the order in which a connection meets them; those of one rank are beside each other."""

    def each(part: str, kind: str, label: str) -> list[Node]:
        return [
            Node(f"{model}-{part}-{worker}", kind, label if place == 0 else "") for place, worker in enumerate(workers)
        ]

    queues = len(workers) if shape.queues == "each" else 1
    waiting = "requests wait" if shape.hands == "requests" else "handed off"
    found = [
        [Node(f"{model}-clients", "clients", "clients")],
        [Node(f"{model}-syn", "queue", "SYN queue")],
        [
            Node(f"{model}-accept-{number}", "queue", "" if number else f"accept queue{'s' * (queues > 1)}")
            for number in range(queues)
        ],
        [Node(f"{model}-{MAIN}", "thread", shape.acceptor)] if shape.acceptor else [],
        each("handoff", "queue", waiting) if shape.handoff == "private" else [],
        [Node(f"{model}-handoff-shared", "queue", waiting)] if shape.handoff == "shared" else [],
        each("worker", "worker", shape.workers + "s" * (len(workers) > 1)),
    ]
    return [rank for rank in found if rank]


def wires(rows: list[list[Box]]) -> Iterator[tuple[Box, Box]]:
    """Between neighbouring ranks: one to one where there are as many, else from each to each."""
    for left, right in pairwise(rows):
        pairs = zip(left, right, strict=True) if len(left) == len(right) else ((a, b) for a in left for b in right)
        yield from pairs


@dataclass(slots=True)
class Svg:
    """Elements, one after the other."""

    parts: list[str] = field(default_factory=list)

    def zone(self, x: float, y: float, width: float, height: float, caption: str) -> None:
        """A panel behind what belongs together."""
        self.parts.append(
            f'<rect class="zone {caption}" x="{x}" y="{y}" width="{width}" height="{height}" rx="12"/>'
            f'<text class="caption" x="{x + 12}" y="{y + 20}">{caption}</text>'
        )

    def box(self, box: Box) -> None:
        """A queue or a worker: a box that fills, a label above, and figures in it."""
        node, place = box.node, f'x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="6"'
        marks = "".join(
            f"M{box.x + box.width * mark / SLOTS:.1f},{box.y}v{box.height}"
            for mark in range(1, SLOTS * (node.kind == "queue"))
        )
        slots = f'<path class="slots" d="{marks}"/>' if marks else ""
        texts = "".join(
            f'<text class="figure {anchor}" x="{x}" y="{y}"></text>' for x, y, anchor in box.texts
        )  # fmt: skip
        label = f'<text class="label" x="{box.x}" y="{box.y - 8}">{escape(node.label)}</text>' if node.label else ""
        self.parts.append(
            f'{label}<g data-part="{escape(node.name)}" class="part" data-kind="{node.kind}">'
            f'<rect class="box" {place}/><rect class="fill" {place}/>{slots}{texts}</g>'
        )

    def way(self, target: str, path: str) -> None:
        """The way that connections, or requests, take to `target`; dots run along it while they do."""
        self.parts.append(f'<path class="way" d="{path}"/><path class="flow" data-flow="{escape(target)}" d="{path}"/>')

    def words(self, x: float, y: float, text: str, anchor: str = "end") -> None:
        """Words that stay: up to `x`, or with it in their middle."""
        self.parts.append(f'<text class="label {anchor}" x="{x}" y="{y}">{escape(text)}</text>')

    def note(self, name: str, x: float, y: float) -> None:
        """Words on their own."""
        self.parts.append(
            f'<g data-part="{escape(name)}" class="part"><text class="figure note" x="{x}" y="{y}"></text></g>'
        )

    def close(self, model: str, kind: str, width: float, height: float) -> str:
        """All of it."""
        return (
            f'<svg viewBox="0 0 {width:g} {height:g}" class="anatomy {kind}" aria-hidden="true" '
            f'data-drawing="{escape(model)}">{"".join(self.parts)}</svg>'
        )


def draw(model: str, workers: Sequence[str], options: dict[str, Any] | None = None) -> str:
    """The drawings of a model with these workers (`main`, or `0`, `1`, …), all at rest: a wide and a tall one."""
    shape = shape_of(model, workers, options or {})
    return wide(model, shape, workers) + tall(model, shape, workers)


def left_out(workers: Sequence[str], most: int) -> str:
    """Return the workers that are not drawn, in words; empty where all are."""
    return f"… and {len(workers) - most} more" if len(workers) > most else ""


# From left to right.

WIDTH, ROW_HEIGHT, TOP = 1000, 62, 62
"""Of the wide drawing, in its own units: it grows with the page, and a row with each worker."""
MOST_ROWS = 16
BOX_HEIGHT = 38
PLACES = {"clients": (4, 92), "syn": (142, 100), "accept": (266, 136), MAIN: (444, 104), "handoff": (574, 84),
          "worker": (684, 232)}  # fmt: skip
"""Begin and width of each part."""
KERNEL_ZONE, OWN_ZONE = (126, 290), (430, 494)


def wide(model: str, shape: Shape, workers: Sequence[str]) -> str:
    """The drawing from left to right."""
    more, workers = left_out(workers, MOST_ROWS), workers[:MOST_ROWS]
    rows, svg = max(1, len(workers)), Svg()
    height = TOP + rows * ROW_HEIGHT + 6
    for (x, width), caption in ((KERNEL_ZONE, "kernel"), (OWN_ZONE, "server")):
        svg.zone(x, 4, width, height - 8, caption)
    placed = [list(column(model, rank, rows)) for rank in ranks(model, shape, workers)]
    for left, right in wires(placed):
        svg.way(right.node.name, curve(left.x + left.width, middle(left), right.x, middle(right)))
    for box in placed[-1]:
        svg.way(box.node.name, curve(box.x + box.width, middle(box), WIDTH - 2, middle(box)))
    for box in (box for rank in placed for box in rank):
        svg.box(box)
    svg.words(WIDTH, TOP - 8, "responses")
    svg.note(f"{model}-drops", KERNEL_ZONE[0] + 12, height - 10)
    if more:
        svg.words(PLACES["worker"][0] + PLACES["worker"][1] / 2, height - 10, more, "middle")
    return svg.close(model, "wide", WIDTH, height)


def column(model: str, rank: list[Node], rows: int) -> Iterator[Box]:
    """The boxes of one rank, one below the other."""
    x, width = PLACES[part_of(model, rank[0])]
    for place, node in enumerate(rank):
        y = TOP + (place if len(rank) > 1 else (rows - 1) / 2) * ROW_HEIGHT
        yield Box(node, x, y, width, BOX_HEIGHT, tuple(across(node, x, y + 25, width)))


def across(node: Node, x: float, y: float, width: float) -> Iterator[tuple[float, float, str]]:
    """A worker's three texts in one line; one in the middle for all others."""
    if node.kind != "worker":
        yield x + width / 2, y, "middle"
        return
    yield x + 10, y, "start"
    yield x + 162, y, "end"
    yield x + width - 8, y, "end"


def part_of(model: str, node: Node) -> str:
    """`accept` of `nginx-accept-0`."""
    return node.name.removeprefix(f"{model}-").partition("-")[0]


def middle(box: Box) -> float:
    """Its height's."""
    return box.y + box.height / 2


def curve(x1: float, y1: float, x2: float, y2: float) -> str:
    """A path from left to right."""
    bend = (x1 + x2) / 2
    return f"M{x1:g},{y1:g}C{bend:g},{y1:g} {bend:g},{y2:g} {x2:g},{y2:g}"


# From top to bottom.

TALL_WIDTH, MARGIN, TALL_GAP = 360, 10, 46
MOST_COLUMNS = 4
"""Width for which a phone has room."""
TALL_HEIGHTS = {"worker": 74}
TALL_TOP = 24
NOTE_HEIGHT = 24
"""Room below the accept queue for what it has dropped, and below the workers for how many more there are."""


def tall(model: str, shape: Shape, workers: Sequence[str]) -> str:
    """The drawing from top to bottom."""
    more, workers = left_out(workers, MOST_COLUMNS), workers[:MOST_COLUMNS]
    svg, y = Svg(), float(TALL_TOP)
    placed: list[list[Box]] = []
    for rank in ranks(model, shape, workers):
        placed.append(list(band(rank, y)))
        y += placed[-1][0].height + TALL_GAP + NOTE_HEIGHT * (part_of(model, rank[0]) == "accept")
    for zone, boxes in groupby(placed, key=lambda rank: zone_of(model, rank[0].node)):
        shown = list(boxes)
        if zone:
            begin = shown[0][0].y - 30
            end = shown[-1][0].y + shown[-1][0].height + 8 + NOTE_HEIGHT * (zone == "kernel" or bool(more))
            svg.zone(1, begin, TALL_WIDTH - 2, end - begin, zone)
    for above, below in wires(placed):
        svg.way(
            below.node.name, drop(above.x + above.width / 2, above.y + above.height, below.x + below.width / 2, below.y)
        )
    for box in (box for rank in placed for box in rank):
        svg.box(box)
    queue = placed[2][0]
    svg.note(f"{model}-drops", 2 * MARGIN, queue.y + queue.height + NOTE_HEIGHT - 4)
    bottom = y - TALL_GAP + NOTE_HEIGHT * bool(more)
    if more:
        svg.words(TALL_WIDTH / 2, bottom - 4, more, "middle")
    return svg.close(model, "tall", TALL_WIDTH, bottom + 12)


def band(rank: list[Node], y: float) -> Iterator[Box]:
    """The boxes of one rank, one beside the other."""
    gap = 6
    width = (TALL_WIDTH - 2 * MARGIN - gap * (len(rank) - 1)) / len(rank)
    width = min(width, 200.0)
    begin = (TALL_WIDTH - width * len(rank) - gap * (len(rank) - 1)) / 2
    for place, node in enumerate(rank):
        x, height = begin + place * (width + gap), TALL_HEIGHTS.get(node.kind, 34)
        lines = range(3) if node.kind == "worker" else range(1)
        yield Box(node, x, y, width, height, tuple((x + width / 2, y + 22 + 21 * line, "middle") for line in lines))


def zone_of(model: str, node: Node) -> str:
    """Name of the zone: kernel or server."""
    part = part_of(model, node)
    return "" if part == "clients" else "kernel" if part in {"syn", "accept"} else "server"


def drop(x1: float, y1: float, x2: float, y2: float) -> str:
    """A path from top to bottom."""
    bend = (y1 + y2) / 2
    return f"M{x1:g},{y1:g}C{x1:g},{bend:g} {x2:g},{bend:g} {x2:g},{y2:g}"


def workers_of(reading: Reading) -> list[str]:
    """Return the workers at the end of the drawing: those that serve; main where no other does."""
    names = [worker.worker for worker in reading.workers]
    others = [name for name in names if name != MAIN]
    return others or names
