"""Pictures of what the trials of a run showed, as SVG that stands in a page.

Their text stays text, and their colours are the page's: `var(--ink)` and the like, so that one picture fits a dark
page, a light one and paper. matplotlib takes half a second to import: import this module where a page is made.
"""

from __future__ import annotations

import io
import os
import re
from collections import defaultdict
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from lab.settings import STATE_DIR

os.environ.setdefault("MPLCONFIGDIR", str(STATE_DIR / "matplotlib"))  # its cache of fonts belongs with the rest

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from lab.harness.observation import AS_SENT
from lab.load.plan import merged
from lab.measure.summary import summarise

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

    from loadtests.histogram import Histogram

WIDTH_INCHES = 8.6
INK, FAINT, PAPER = "#010101", "#020202", "#030303"
SERIES = tuple(f"#0{number}0{number}0{number}" for number in range(4, 10))
COLOURS = {INK: "var(--ink)", FAINT: "var(--line)", PAPER: "var(--paper)"} | {
    stand_in: f"var(--series-{number})" for number, stand_in in enumerate(SERIES, 1)
}
"""Colours that nobody would choose stand in for the page's while matplotlib draws."""
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "+++")
"""Beside the colours: a page may be printed without them."""
DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "accept-lab",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.titlecolor": INK,
    "axes.titlesize": 9,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "hatch.color": PAPER,
    "hatch.linewidth": 0.8,
    "legend.frameon": False,
    "text.parse_math": False,  # a `$` in an experiment is a `$`
}
PERCENTILES = (0, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99)
OMISSION = (
    " Times count from when a request was meant to start. “As sent” leaves out what it waited for its turn, as load "
    "generators do that send the next request only after the last answer (coordinated omission)."
)
POINTS_A_CURVE = 200
NARROW = 20
"""From the least to the greatest value of a logarithmic axis, below which powers of ten are too few marks."""
BARS_A_CHART = 40
"""More would be a comb: a share by hundreds of connections says nothing by name."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawing and what it shows."""

    title: str
    caption: str
    svg: str


def pictures(arms: Sequence[Mapping[str, Any]]) -> list[Picture]:
    """All that can be drawn of a run's arms, as result.json has them."""
    with mpl.rc_context(STYLE):
        return [*_shares(arms), *_latencies(arms), *_series(arms), *_figures(arms)]


def _shares(arms: Sequence[Mapping[str, Any]]) -> Iterable[Picture]:
    """For each kind of share: bars, one panel an arm."""
    for title in _names(arms, "shares"):
        panels = {arm["name"]: _bars(arm, title) for arm in arms}
        panels = {name: bars for name, bars in panels.items() if 0 < len(bars) <= BARS_A_CHART}
        if panels:
            yield Picture(
                title[:1].upper() + title[1:],
                "Median of the trials; the thin line is their spread.",
                draw(_bar_panels, panels),
            )


def _bars(arm: Mapping[str, Any], title: str) -> dict[str, list[float]]:
    """Of each key, its value in each trial; a trial in which a key is missing had none of it."""
    trials = [trial["shares"][title] for trial in arm["trials"] if title in trial.get("shares", {})]
    keys = dict.fromkeys(key for trial in trials for key in trial)
    return {key: [trial.get(key, 0.0) for trial in trials] for key in keys}


def _bar_panels(panels: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    longest = max(len(bars) for bars in panels.values())
    figure = Figure(figsize=(WIDTH_INCHES, rows * (0.75 + 0.24 * longest)), layout="constrained")
    # Names that all panels have stand at the left of a row only.
    same = len({tuple(bars) for bars in panels.values()}) == 1
    grid = list(figure.subplots(rows, columns, sharex=True, sharey=same, squeeze=False).flat)
    for number, (axes, (name, bars)) in enumerate(zip(grid, panels.items(), strict=False)):
        summaries = [summarise(values, "") for values in bars.values()]
        middles = [summary["median"] for summary in summaries]
        spread = (
            [summary["median"] - summary["min"] for summary in summaries],
            [summary["max"] - summary["median"] for summary in summaries],
        )
        colour, hatch = SERIES[number % len(SERIES)], HATCHES[number % len(HATCHES)]
        axes.barh(
            range(len(bars)),
            middles,
            xerr=spread if any(map(any, spread)) else None,
            color=colour,
            hatch=hatch,
            height=0.7,
            edgecolor=PAPER,
            error_kw={"ecolor": INK, "elinewidth": 1},
        )
        axes.set_yticks(range(len(bars)), list(bars))
        axes.set_ylim(len(bars) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_title(name, loc="left")
    # Only now: the panels share one axis, and a limit ends its growing with what is drawn.
    axes.set_xlim(left=0)
    _hide_unused(grid, len(panels))
    for axes in grid[max(0, len(panels) - columns) : len(panels)]:
        axes.tick_params(labelbottom=True)  # also where nothing is below, but a place
    return figure


def _latencies(arms: Sequence[Mapping[str, Any]]) -> Iterable[Picture]:
    """For each kind of latency: its distribution and its percentiles, all arms together."""
    names = _names(arms, "latencies")
    for title in (name for name in names if not name.endswith(AS_SENT)):
        kinds = [kind for kind in ("", AS_SENT) if title + kind in names]
        found = {arm["name"] + kind: _merged(arm, title + kind) for arm in arms for kind in kinds}
        found = {name: times for name, times in found.items() if times.count}
        if found:
            text = (
                "All trials of an arm together. Left: how many of the requests took so long. Right: the slowest "
                "requests, stretched: each step to the right leaves a tenth of them."
            )
            text += OMISSION if AS_SENT in kinds else ""
            yield Picture(f"Latencies: {title}", text, draw(_latency_panels, found))


def _merged(arm: Mapping[str, Any], title: str) -> Histogram:
    stored = (trial.get("latencies", {}).get(title) for trial in arm["trials"])
    return merged(times for times in stored if isinstance(times, dict))  # older runs hold text of hdrhistogram's


def _latency_panels(found: Mapping[str, Histogram]) -> Figure:
    figure = Figure(figsize=(WIDTH_INCHES, 3.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, (name, times) in enumerate(found.items()):
        style: dict[str, Any] = {"color": SERIES[number % len(SERIES)], "linestyle": DASHES[number % len(DASHES)]}
        steps = times.steps()
        steps = [*steps[:: 1 + len(steps) // POINTS_A_CURVE], steps[-1]]
        left.plot([1000 * seconds for seconds, _ in steps], [100 * share for _, share in steps], label=name, **style)
        seen = [share for share in PERCENTILES if share < 100 and (100 - share) / 100 * times.count >= 1]
        right.plot(
            [100 / (100 - share) for share in seen],
            [1000 * (times.quantile(share / 100) or 0.0) for share in seen],
            marker="o",
            markersize=3,
            **style,
        )
    left.set(xscale="log", xlabel="ms", ylabel="% of requests at most", ylim=(0, 102))
    right.set(xscale="log", yscale="log", xlabel="percentile", ylabel="ms")
    shown = [share for share in (0, 50, 90, 99, 99.9, 99.99) if 100 / (100 - share) <= right.get_xlim()[1]]
    right.set_xticks([100 / (100 - share) for share in shown], [f"{share:g}" for share in shown])
    right.xaxis.set_minor_locator(NullLocator())
    _plain_milliseconds(left.xaxis, left.get_xlim())
    _plain_milliseconds(right.yaxis, right.get_ylim())
    figure.legend(loc="outside lower center", ncols=min(4, len(found)))
    return figure


def _plain_milliseconds(axis: Axis, limits: tuple[float, float]) -> None:
    """Write times as plain numbers; an axis so short that it has no power of ten on it gets marks of its own."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
    if limits[1] < NARROW * limits[0]:
        axis.set_major_locator(MaxNLocator(5))


def _series(arms: Sequence[Mapping[str, Any]]) -> Iterable[Picture]:
    """For each thing that was followed over time: a line a trial, an arm's in one colour."""
    for title in _names(arms, "series"):
        lines = {
            arm["name"]: [t["series"][title] for t in arm["trials"] if t.get("series", {}).get(title)] for arm in arms
        }
        lines = {name: trials for name, trials in lines.items() if trials}
        if lines:
            yield Picture(f"Over time: {title}", "A line for each trial.", draw(_lines, lines))


def _lines(lines: Mapping[str, Sequence[Sequence[Sequence[float]]]]) -> Figure:
    figure = Figure(figsize=(WIDTH_INCHES, 2.6), layout="constrained")
    axes = figure.subplots()
    for number, (name, trials) in enumerate(lines.items()):
        for repetition, points in enumerate(trials):
            axes.step(
                [at for at, _ in points],
                [value for _, value in points],
                where="post",
                label="" if repetition else name,
                color=SERIES[number % len(SERIES)],
                linestyle=DASHES[number % len(DASHES)],
                linewidth=1.2,
                alpha=0.9 if len(trials) == 1 else 0.6,
            )
    axes.set_xlabel("seconds")
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
    figure.legend(loc="outside lower center", ncols=min(4, len(lines)))
    return figure


def _figures(arms: Sequence[Mapping[str, Any]]) -> Iterable[Picture]:
    """Every metric that varies: a dot a trial, a row an arm. Where there was one trial, the table says it all."""
    if max((len(arm["trials"]) for arm in arms), default=0) < 2:
        return
    metrics: dict[str, dict[str, list[float]]] = defaultdict(dict)
    for arm in arms:
        for name, summary in arm["metrics"].items():
            title = f"{name}, {summary['unit']}" if summary["unit"] else name
            metrics[title][arm["name"]] = [t["metrics"][name][0] for t in arm["trials"] if name in t["metrics"]]
    varying = {title: found for title, found in metrics.items() if len(set(chain(*found.values()))) > 1}
    if varying:
        caption = "A dot is a trial; the bar is the median. What was the same in all of them is in the table below."
        yield Picture("Every trial", caption, draw(_dots, varying, [arm["name"] for arm in arms]))


def every_unit(metrics: Mapping[str, Mapping[str, Sequence[float]]], names: Sequence[str]) -> Picture:
    """Return a panel for each metric, with a row for each of `names` and a dot for each of its units."""
    caption = "A dot is a repeat, a trial, or a block of seconds; the bar is the median."
    with mpl.rc_context(STYLE):
        return Picture("Every unit", caption, draw(_dots, metrics, names))


def latencies(found: Mapping[str, Histogram]) -> Picture:
    """Return the response times of several loads: distribution and percentiles, all repeats of each together."""
    caption = (
        "Left: how many of the requests took so long. Right: the slowest requests, stretched: each step to the right "
        "leaves a tenth of them."
    )
    with mpl.rc_context(STYLE):
        return Picture("Latency by percentile", caption, draw(_latency_panels, found))


def _dots(metrics: Mapping[str, Mapping[str, Sequence[float]]], names: Sequence[str]) -> Figure:
    columns = min(3, len(metrics))
    rows = -(-len(metrics) // columns)
    figure = Figure(figsize=(WIDTH_INCHES, rows * (0.75 + 0.22 * len(names))), layout="constrained")
    grid = list(figure.subplots(rows, columns, sharey=True, squeeze=False).flat)
    for axes, (title, by_arm) in zip(grid, metrics.items(), strict=False):
        for row, name in enumerate(names):
            values = by_arm.get(name, [])
            if not values:  # an empty line has no extent, and unclipped it leaves the layout none either
                continue
            colour = SERIES[row % len(SERIES)]
            axes.plot(values, [row] * len(values), "o", color=colour, markersize=4, alpha=0.7, clip_on=False)
            axes.plot([summarise(values, "")["median"]], [row], "|", color=INK, markersize=11)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        if all(value >= 0 for values in by_arm.values() for value in values):
            axes.set_xlim(0, max((value for values in by_arm.values() for value in values), default=0) * 1.08 or 1)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_title(title, loc="left")
    _hide_unused(grid, len(metrics))
    return figure


def _names(arms: Iterable[Mapping[str, Any]], kind: str) -> list[str]:
    return list(dict.fromkeys(name for arm in arms for trial in arm["trials"] for name in trial.get(kind, {})))


def _hide_unused(grid: Sequence[Axes], used: int) -> None:
    for axes in grid[used:]:
        axes.set_visible(False)


def styled() -> AbstractContextManager[None]:
    """Return the context in which plots are drawn."""
    return mpl.rc_context(STYLE)


def empty_figure(height_inches: float) -> Figure:
    """Return a figure as wide as a page's column."""
    return Figure(figsize=(WIDTH_INCHES, height_inches), layout="constrained")


def draw(make: Any, *data: Any) -> str:
    """The figure as an `<svg>` that may stand in a page beside others."""
    file = io.StringIO()
    make(*data).savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return embedded(file.getvalue())


_numbers = iter(range(1, 1 << 62))


def embedded(svg: str) -> str:
    """Without the lines that belong to a file of its own, in the page's colours and with ids of its own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # An inline picture scales with its column: the size in points would hold it.
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    for stand_in, colour in COLOURS.items():
        svg = svg.replace(stand_in, colour)
    prefix = f"picture{next(_numbers)}-"
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}", svg)
