"""Readings as text: one block a model, its workers on the left and its stages on the right.

Five models of four workers fit 100 columns by 30 rows. On a smaller screen the workers give way first,
the idlest before the busy.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from rich.text import Text

from lab import settings
from lab.top.readings import STAGES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.top.readings import Queue, Reading, WorkerReading

COLUMNS = 100
HEADER_ROWS, FOOTER_ROWS = 2, 1
LEFT_COLUMNS = 57
STAGE_ROWS = 3
BAR_CELLS = 6
BUSY_PERCENT = 90
NONE = "-"

HEADS = (
    f" {'worker':<7}{'state':<9}{'conns':>5}{'queue':>6}{'req/s':>7}{'cpu%':>5}{'cs/acc':>7}  {'share':<{BAR_CELLS}}"
)
STAGE_HEADS = f"{'stage':<9}{'p50':>5}{'p99':>6}"
STATE_STYLES = {"idle": "dim", "busy": "green", "stalled": "bold red", "crashed": "bold red", "gone": "red"}
HINT = f"nothing answers: `{settings.UP}` starts all, `lab serve MODEL` one"


@dataclass(frozen=True, slots=True)
class Screen:
    """Size of the screen. `rows` None: as many as it takes."""

    interval_seconds: float
    rows: int | None = None
    live: bool = True


def render(readings: Sequence[Reading], screen: Screen) -> Text:
    """All models."""
    most = _workers_that_fit(readings, screen.rows)
    lines = [_title(screen), _heads()]
    for reading in readings:
        lines += _block(reading, most)
    if screen.live:
        lines.append(_footer(readings))
    return Text("\n", no_wrap=True, overflow="crop").join(lines)


def duration(seconds: float) -> str:
    """At most five characters; the ends are those of the histogram, beyond which nothing is known."""
    if seconds <= 10e-6:
        return "<10µs"
    if seconds >= 10:
        return ">10s"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        value = seconds / size
        # 0.9995 ms would be rounded to "1000µs".
        if value >= 0.9995:
            return f"{value:.1f}{unit}" if value < 9.95 else f"{value:.0f}{unit}"
    return NONE


def count(value: float | None) -> str:
    """At most six characters."""
    if value is None:
        return NONE
    if value < 99_999.5:
        return f"{value:.0f}"
    return f"{value / 1e3:.0f}k" if value < 99_999_500 else f"{value / 1e6:.0f}M"


def bar(share: float | None, cells: int = BAR_CELLS) -> str:
    """A share of 0 to 1 in eighths of a cell."""
    eighths = round((share or 0.0) * cells * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")).ljust(cells)


def _title(screen: Screen) -> Text:
    how = f"every {screen.interval_seconds:g} s · Ctrl-C ends" if screen.live else f"over {screen.interval_seconds:g} s"
    return Text.assemble(("lab top", "bold"), f" · {time.strftime('%H:%M:%S')} · {how}")


def _heads() -> Text:
    text = f"{HEADS:<{LEFT_COLUMNS}}{STAGE_HEADS}  {STAGE_HEADS}"
    return Text(f"{text:<{COLUMNS}}", style="reverse")


def _footer(readings: Sequence[Reading]) -> Text:
    if any(reading.up for reading in readings):
        return Text("cs/acc: voluntary context switches an accept · queue: handed off, not picked up", style="dim")
    return Text(HINT, style="yellow")


def _block(reading: Reading, most: int) -> list[Text]:
    """The model's own line, then its workers beside its stages."""
    if not reading.up:
        down = Text.assemble(_name(reading), ("down", "bold red"), f"  {reading.url}  {reading.problem}")
        return [_fitted(down)]
    left = _workers(reading.workers, most)
    beside = [_fitted(workers or Text(), stages) for workers, stages in zip_longest(left, _stages(reading))]
    return [_fitted(_summary(reading)), *beside]


def _fitted(left: Text, right: Text | None = None) -> Text:
    """One row: never wider than the screen, since a line that wraps would move everything below it."""
    row = left.copy()
    if right is not None:
        row.truncate(LEFT_COLUMNS, pad=True)
        row.append_text(right)
    row.truncate(COLUMNS, overflow="ellipsis")
    return row


def _name(reading: Reading) -> tuple[str, str]:
    return f"{reading.model:<10}", "bold cyan"


def _summary(reading: Reading) -> Text:
    text = Text.assemble(_name(reading), "accept queue ", _queue(reading.accept_queue))
    if reading.fullest_queue != reading.accept_queue:
        text.append_text(Text.assemble(" (fullest ", _queue(reading.fullest_queue), ")"))
    dropping = bool(reading.drops_per_second)
    drops = f"{count(reading.drops)}" + (f" +{count(reading.drops_per_second)}/s" if dropping else "")
    text.append_text(Text.assemble("  drops ", (drops, "bold red" if dropping else "")))
    text.append(f"  SYN {count(reading.syn_queue_length)}  conns {count(reading.connections)}  ")
    text.append(f"{count(reading.requests_per_second)} req/s", style="bold")
    text.append(f"  wasted {count(reading.wasted_wakeups_per_second)}/s")
    if reading.worker_restarts:
        text.append(f"  restarts {reading.worker_restarts}", style="yellow")
    return text


def _queue(queue: Queue) -> tuple[str, str]:
    return f"{queue.length}/{queue.limit}", "bold red" if queue.full else "yellow" if queue.length else ""


def _workers(workers: Sequence[WorkerReading], most: int) -> list[Text]:
    """At most `most` rows, the last of which says how many are not shown."""
    if len(workers) <= most:
        return [_worker(worker) for worker in workers]
    busiest = sorted(workers, key=lambda worker: worker.requests_per_second or 0, reverse=True)[: most - 1]
    shown = [_worker(worker) for worker in workers if worker in busiest]
    return [*shown, Text(f" … {len(workers) - len(shown)} more, less busy", style="dim")]


def _worker(worker: WorkerReading) -> Text:
    cpu = worker.cpu_percent
    switches = NONE if worker.switches_per_accept is None else f"{worker.switches_per_accept:.2f}"
    return Text.assemble(
        f" {worker.worker:<7}",
        (f"{worker.state or NONE:<9}", STATE_STYLES.get(worker.state or "", "yellow")),
        f"{count(worker.connections):>5}",
        (f"{count(worker.queue_depth):>6}", "yellow" if worker.queue_depth else ""),
        f"{count(worker.requests_per_second):>7}",
        (f"{count(cpu):>5}", "bold yellow" if cpu is not None and cpu >= BUSY_PERCENT else ""),
        f"{switches:>7}  ",
        (bar(worker.share), "cyan"),
    )


def _stages(reading: Reading) -> list[Text]:
    """The stages in the order that a request meets them, two a row."""
    cells = [_stage(reading, stage) for stage in STAGES]
    return [Text.assemble(cells[row], "  ", cells[row + 1]) for row in range(0, len(cells), 2)]


def _stage(reading: Reading, stage: str) -> Text:
    quantiles = reading.stages.get(stage)
    p50, p99 = (duration(quantiles.p50), duration(quantiles.p99)) if quantiles else (NONE, NONE)
    return Text.assemble((f"{stage.removesuffix('_wait'):<9}", "dim"), f"{p50:>5}{p99:>6}")


def _workers_that_fit(readings: Sequence[Reading], rows: int | None) -> int:
    """Return how many rows of workers a model may have; never fewer than its stages take anyway."""
    most = max((len(reading.workers) for reading in readings), default=0)
    if rows is None:
        return max(most, STAGE_ROWS)
    while most > STAGE_ROWS and _height(readings, most) > rows:
        most -= 1
    return max(most, STAGE_ROWS)


def _height(readings: Sequence[Reading], most: int) -> int:
    blocks = (1 + max(STAGE_ROWS, min(len(reading.workers), most)) if reading.up else 1 for reading in readings)
    return HEADER_ROWS + sum(blocks) + FOOTER_ROWS
