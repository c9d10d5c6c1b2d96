"""Comparison of runs, for people: tables for a terminal, and a page with plots."""

from __future__ import annotations

import math
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from lab.harness.checks import number, shown
from lab.measure.difference import RATIO
from lab.report.comparison import DIFFERENT, SAME, Comparison, Row, verdict
from lab.report.rendering import templates
from lab.results import RESULTS, put

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.console import RenderableType

    from lab.measure.difference import Difference, Figure
    from lab.report.plots import Picture

PAGE = "comparison.html"
"""One page, of the last comparison: a folder of them would grow without end. `--page` keeps one elsewhere."""
STYLES = {DIFFERENT: "bold yellow", SAME: "green"}


def letters(comparison: Comparison) -> list[str]:
    """Return the short names under which tables and plots show the sides."""
    return list(ascii_uppercase[: len(comparison.sides)])


def summary(comparison: Comparison) -> str:
    """Return what the comparison found, in a line."""
    found = [
        f"{row.group + ': ' if row.group else ''}{row.metric}" for row in comparison.rows if row.verdict == DIFFERENT
    ]
    return f"{DIFFERENT}: {', '.join(found)}" if found else SAME


# In a terminal.


def tables(comparison: Comparison) -> Iterator[RenderableType]:
    """Yield legend, figures and notes."""
    yield _legend(comparison)
    yield _figures(comparison)
    for note in comparison.notes:
        yield Text(note, style="yellow")
    found = summary(comparison)
    yield Text(found, style=STYLES[found.partition(":")[0]])


def _legend(comparison: Comparison) -> Table:
    table = Table(box=SIMPLE_HEAD, header_style="bold", padding=(0, 1, 0, 0))
    for heading in ("", "run", "units", "settings"):
        table.add_column(heading)
    for letter, side in zip(letters(comparison), comparison.sides, strict=True):
        table.add_row(letter, Text(side.name), side.units, Text(settings(side.settings)))
    return table


def settings(found: dict[str, Any]) -> str:
    """Return options and the like in a line; those that are not set are left out."""
    return " ".join(f"{name}={_plain(value)}" for name, value in found.items() if value not in (None, "", [], False))


def _plain(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _figures(comparison: Comparison) -> Table:
    """Return a line for each side of each metric: as many sides as there may be stand one below the other."""
    table = Table(box=SIMPLE_HEAD, header_style="bold", padding=(0, 1, 0, 0))
    names = letters(comparison)
    for heading in ("group", "figure", "", "median (spread)", f"beside {names[0]} (interval)", ""):
        table.add_column(heading)
    table.columns[0].header = "group" if any(row.group for row in comparison.rows) else ""
    for row in comparison.rows:
        table.add_row(Text(row.group), Text(title(row)), names[0], figure_text(row.figures[0]))
        for name, figure, difference in zip(names[1:], row.figures[1:], row.differences, strict=True):
            word = verdict(difference.differs)
            styled = Text(word, style=STYLES.get(word, "dim"))
            table.add_row("", "", name, figure_text(figure), difference_text(difference), styled)
    return table


def title(row: Row) -> str:
    """Return the metric's name, with its unit."""
    unit = row.figures[0].summary["unit"]
    return f"{row.metric}, {unit}" if unit else row.metric


def figure_text(figure: Figure) -> str:
    """Return median and spread, without the unit."""
    return shown({**figure.summary, "unit": ""})


def difference_text(difference: Difference) -> str:
    """Return the difference with its interval: in percent, or in the metric's unit where a figure is 0."""
    value, low, high = (signed(each, difference.scale) for each in (difference.value, difference.low, difference.high))
    unit = " %" if difference.scale == RATIO else ""
    return f"{value}{unit} ({low} to {high})" if math.isfinite(difference.high) else f"{value}{unit}"


def signed(value: float, scale: str) -> str:
    """Return a difference with its sign."""
    if scale == RATIO:
        return f"{100 * value:+,.{0 if abs(value) >= 1 else 1}f}"
    return f"{'+' if value > 0 else ''}{number(value)}"


# As a page.


def write(comparison: Comparison, page: Path | None = None) -> Path:
    """Write the page, by default where the last comparison has its own: where it is."""
    path = page or RESULTS / PAGE
    path.parent.mkdir(parents=True, exist_ok=True)
    put(path, html(comparison))
    return path


def html(comparison: Comparison) -> str:
    """Return the page: it needs nothing else."""
    return (
        templates()
        .get_template("comparison.html")
        .render(
            comparison=comparison,
            letters=letters(comparison),
            summary=summary(comparison),
            settings=settings,
            title=title,
            figure_text=figure_text,
            difference_text=difference_text,
            pictures=_pictures(comparison),
        )
    )


def _pictures(comparison: Comparison) -> list[Picture]:
    from lab.report.plots import every_unit, latencies  # matplotlib: half a second that only a page needs

    names = letters(comparison)
    found = [every_unit(units, names) for units in _units(comparison) if units]
    times = {
        f"{name} {key}".strip(): group.latencies
        for name, side in zip(names, comparison.sides, strict=True)
        for key, group in side.groups.items()
        if group.latencies is not None and group.latencies.count
    }
    return [*found, *([latencies(times)] if times else [])]


def _units(comparison: Comparison) -> Iterator[dict[str, dict[str, list[float]]]]:
    """Yield for each group its metrics that vary: of each, every side's values."""
    names = letters(comparison)
    for group in dict.fromkeys(row.group for row in comparison.rows):
        rows = [row for row in comparison.rows if row.group == group]
        prefix = f"{group}: " if group else ""
        found = {
            f"{prefix}{title(row)}": {name: _drawn(figure) for name, figure in zip(names, row.figures, strict=True)}
            for row in rows
        }
        yield {
            name: sides
            for name, sides in found.items()
            if len({value for each in sides.values() for value in each}) > 1
        }


def _drawn(figure: Figure) -> list[float]:
    """Return a figure's values; median and extremes where nothing else was kept."""
    summary = figure.summary
    return list(figure.values) or [summary["min"], summary["median"], summary["max"]]
