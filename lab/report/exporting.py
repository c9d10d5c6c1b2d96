"""`lab export`: the rows of a stored run (lab/records.py), as a file or on standard output."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from lab import records
from lab.records import NoRecordsError
from lab.results import find_run

if TYPE_CHECKING:
    from pathlib import Path

PARQUET, CSV = "parquet", "csv"


def export(name: str, form: str, output: Path | None) -> None:
    """Write the rows of a run in one form. Raises ResultsError, and NoRecordsError if a file cannot be written, too."""
    run, document = find_run(name)
    found = _rows(run, document)
    if output is None:
        sys.stdout.write(_text(form, document, found))
        return
    try:
        if form == PARQUET:
            _write_parquet(found, output)
        else:
            output.write_text(_text(form, document, found), encoding="utf-8", newline="")
    except OSError as error:
        raise NoRecordsError(f"{output} cannot be written: {error.strerror or error}") from error


def _rows(run: str, document: dict[str, Any]) -> list[dict[str, Any]]:
    try:
        return records.rows(document, run)
    except NoRecordsError as error:
        raise NoRecordsError(f"{run} {error}") from error


def _text(form: str, document: dict[str, Any], found: list[dict[str, Any]]) -> str:
    if form == CSV:
        return records.as_csv(found)
    return f"{json.dumps(records.as_json(document, found), ensure_ascii=False, indent=1)}\n"


def _write_parquet(found: list[dict[str, Any]], output: Path) -> None:
    try:
        records.write_parquet(found, output)
    except ModuleNotFoundError as error:
        raise NoRecordsError(
            f"Parquet needs the Python package {error.name!r}: `pip install -c constraints.txt -e .[analysis]` in the "
            "lab's virtual environment; --csv and --json need nothing"
        ) from error
