"""The document of `lab advise` for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from lab.harness.verdict import BUSY_MACHINE
from lab.stack.tables import headed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table


def shown(document: dict[str, Any]) -> Iterator[Table | Text]:
    """Yield the table of servers; then, for each figure, what is worse beyond noise, by how much, and why."""
    rates = document["rates"]
    blocking = f", {rates['blocking']:.1f} a second on blocking ones" if document["routes"]["blocking"] else ""
    yield Text(
        f"{document['application']}: as fast as it goes, then {rates['cheap']:.0f} requests a second on cheap "
        f"routes{blocking}. Medians; † no worse than the best, as far as these rounds can tell."
    )
    yield _rows(document)
    for finding in document["findings"]:
        yield from _finding(finding)
    for left_out in document["left_out"]:
        yield Text(f"left out: {left_out['server']}: {left_out['why']}")
    if document["others_cpu_ratio"] > BUSY_MACHINE:
        taken = f"{document['others_cpu_ratio']:.0%}"
        yield Text(f"other programs took {taken} of the processors: spreads are wider for it", style="yellow")


def _rows(document: dict[str, Any]) -> Table:
    names = list(dict.fromkeys(name for row in document["rows"] for name in row["figures"]))
    table = headed("server", *names, "failed")
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    for row in document["rows"]:
        name = f"{row['server']} × {row['workers']}"
        cells = [_cell(row["figures"].get(figure), _is_good(document, figure, name)) for figure in names]
        table.add_row(name, *cells, f"{row['failed']:,}")
    return table


def _is_good(document: dict[str, Any], figure: str, server: str) -> bool:
    finding = next((each for each in document["findings"] if each["figure"] == figure), None)
    return finding is None or server == finding["best"] or server in (*finding["as_good"], *finding["undecided"])


def _cell(summary: dict[str, Any] | None, good: bool) -> str:
    if summary is None:
        return "-"
    value = summary["median"]
    return f"{value:,.0f}{'†' * good}" if value >= 100 else f"{value:.3g}{'†' * good}"


def _finding(finding: dict[str, Any]) -> Iterator[Text]:
    if not finding["worse"]:
        words = "too few rounds to tell" if finding["undecided"] else "no difference beyond noise"
        yield Text(f"{finding['figure']}: {words}")
        return
    yield Text(f"{finding['figure']}: best {finding['best']}", style="bold")
    for worse in finding["worse"]:
        text = f"  {worse['server']}: {_times(worse['times'])} ({_times(worse['low'])} to {_times(worse['high'])})"
        yield Text(f"{text}; {worse['why']} (lab run {worse['experiment']})" if worse["why"] else text)


def _times(value: float) -> str:
    return f"× {value:.2f}" if value < 100 else f"× {value:.0f}"
