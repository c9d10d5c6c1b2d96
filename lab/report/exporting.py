"""`lab export`: the rows of a stored run (lab/records.py), as a file or on standard output."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from lab.records import NoRecordsError, as_csv, as_json, rows, write_parquet
from lab.report import stored

if TYPE_CHECKING:
    from pathlib import Path

PARQUET, CSV = "parquet", "csv"


def export(name: str, form: str, output: Path | None) -> None:
    """Write the rows of a run in one form. Raises NoRecordsError."""
    run, document = read(name)
    try:
        found = rows(document, run)
    except NoRecordsError as error:
        raise NoRecordsError(f"{run} {error}") from error
    if form == PARQUET and output:
        _write_parquet(found, output)
        return
    text = as_csv(found) if form == CSV else f"{json.dumps(as_json(document, found), ensure_ascii=False, indent=1)}\n"
    if output:
        output.write_text(text, encoding="utf-8", newline="")
    else:
        sys.stdout.write(text)


def read(name: str) -> tuple[str, dict[str, Any]]:
    """Return name and document of a stored run, or of a JSON file. Raises NoRecordsError."""
    try:
        return stored.document_of(name)
    except stored.UnknownRunError as error:
        raise NoRecordsError(str(error)) from error


def _write_parquet(found: list[dict[str, Any]], output: Path) -> None:
    try:
        write_parquet(found, output)
    except ModuleNotFoundError as error:
        raise NoRecordsError(
            f"Parquet needs the Python package {error.name!r}: `pip install -c constraints.txt -e .[analysis]` in the "
            "lab's virtual environment; --csv and --json need nothing"
        ) from error
