"""Runs: two of the stored ones, chosen and compared. The comparison is the page that `lab compare` writes."""

from __future__ import annotations

import threading
from html import escape
from typing import TYPE_CHECKING, Annotated

from fastapi import Query, Response

from lab.report import comparison, comparison_view
from lab.results import RESULTS
from lab.results import runs as stored_runs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fastapi import FastAPI

    from lab.results import StoredRun

PATH = "/comparison"
NOT_FOUND, CANNOT = 404, 422
MOST_SHOWN = 200
TOO_FEW = "Fewer than two runs are stored: <code>lab load MODEL</code> and <code>lab run NAME</code> make them."


def content(results: Path = RESULTS) -> str:
    """Return the page's content: a form with two lists, the newest run first."""
    runs = [run for run in reversed(stored_runs(results)) if run.document][:MOST_SHOWN]
    if len(runs) < 2:
        return f"<h2>Runs</h2><p>{TOO_FEW}</p>"
    first, second = proposal(runs)
    return (
        f"<h2>Runs</h2><p>Two runs of one kind, and whether their figures differ.</p>"
        f'<form class="runs" action="{PATH}" target="_blank">'
        f"{choice('First', runs, first)}{choice('Second', runs, second)}"
        f'<button type="submit">Compare</button></form>'
    )


def proposal(runs: Sequence[StoredRun]) -> tuple[str, str]:
    """Return the newest run and the one before it of the same thing, the older first; else the two newest."""
    newest = runs[0]
    before = next((run for run in runs[1:] if what(run) == what(newest)), runs[1])
    return before.name, newest.name


def what(run: StoredRun) -> str:
    """Return what the run was of: its id without the time."""
    return run.name.partition("-")[2]


def choice(label: str, runs: Sequence[StoredRun], chosen: str) -> str:
    """Return one list."""
    options = "".join(
        f'<option value="{escape(run.name)}"{" selected" if run.name == chosen else ""}>{escape(run.name)}</option>'
        for run in runs
    )
    return f'<label>{label} <select name="run">{options}</select></label>'


def add_comparison(app: FastAPI, results: Path = RESULTS) -> None:
    """Serve comparisons of stored runs, and of nothing else: a name is never a path."""
    drawing = threading.Lock()  # matplotlib's settings belong to the whole process

    @app.get(PATH)
    def compared(run: Annotated[tuple[str, ...], Query()] = ()) -> Response:
        known = {each.name for each in stored_runs(results)}
        if strange := [name for name in run if name not in known]:
            return plain(f"there is no run called {strange[0]!r}", NOT_FOUND)
        try:
            found = comparison.of_runs(run, results)
        except comparison.ComparisonError as error:
            return plain(str(error), CANNOT)
        with drawing:
            return Response(comparison_view.html(found), media_type="text/html")


def plain(text: str, status: int) -> Response:
    """Return a refusal."""
    return Response(f"{text}\n", status_code=status, media_type="text/plain")
