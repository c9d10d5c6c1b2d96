"""A comparison for a person: the table, remarks on what is missing or unexplained, and the exit code."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rich.table import Table

from lab.fidelity.judge import WORDS
from lab.harness.checks import number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Progress = Callable[[float, str], None]
    """Called with the share that is done, and what is being done."""

COLOURS = {True: "green", False: "yellow", None: "magenta"}
GOOD, DIFFERS, INCONCLUSIVE = 0, 1, 3


def progress() -> Progress:
    """Return a function that says on stderr what is being measured, on a terminal in one line."""
    end = "\r" if sys.stderr.isatty() else "\n"

    def tell(share: float, doing: str) -> None:
        print(f"lab: {share:4.0%}  {doing:<110.110}", end=end, file=sys.stderr, flush=True)

    return tell


def table(document: dict[str, Any]) -> Table:
    """Return the rows as a table."""
    shown = Table(title="Models beside real systems", show_lines=True)
    for heading in ("signature", "model", "", "real", "", "tolerance", "", "why"):
        shown.add_column(heading, overflow="fold")
    for row in document["rows"]:
        figures = [figure(row[f"{side}_value"], row["unit"]) for side in ("model", "real")]
        colour = COLOURS[row["agrees"]]
        word = f"[{colour}]{WORDS[row['agrees']]}[/{colour}]"
        cells = (row["signature"], row["model"], figures[0], row["real"], figures[1], within(row), word, row["why"])
        shown.add_row(*cells)
    return shown


def remarks(document: dict[str, Any]) -> Iterator[str]:
    """Yield lines about the run: how many agree, and what is missing, failed, unexplained or inconclusive."""
    rows = document["rows"]
    controls = [row["control"] for row in rows if row["control"]]
    caught = sum(control["caught"] for control in controls)
    agreeing = sum(row["agrees"] is True for row in rows)
    yield f"{agreeing} of {len(rows)} rows agree; {caught} of {len(controls)} wrong models are caught"
    for name, how in document["missing"].items():
        yield f"{name} is not installed, so its rows are left out: {how}"
    for name, lines in (("not measured", "failed"), ("unexplained", "unexplained"), ("inconclusive", "inconclusive")):
        yield from (f"{name}: {line}" for line in document[lines])


def exit_code(document: dict[str, Any]) -> int:
    """Return 1 where something differs that should not, or was not measured; 3 where a row is inconclusive."""
    if document["unexplained"] or document["failed"]:
        return DIFFERS
    return INCONCLUSIVE if document["inconclusive"] else GOOD


def figure(value: float, unit: str) -> str:
    """Return a figure for a person: a share in percent, a count as it is."""
    return f"{100 * value:.0f} %" if unit == "%" else number(value)


def within(row: dict[str, Any]) -> str:
    """Return a row's tolerance for a person."""
    tolerance = row["tolerance"]
    return f"± {figure(tolerance, row['unit'])}" if tolerance else "exact"
