"""Stored runs for notebooks: `frame` for pandas, `rows` for anything else (docs/analysis.md has the columns)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab import records

if TYPE_CHECKING:
    import pandas

__all__ = ["frame", "rows"]


def rows(*names: str) -> list[dict[str, Any]]:
    """Return the rows of stored runs, by name, or of JSON files. Raises NoRecordsError."""
    from lab.report import exporting

    return [row for name in names for row in exporting.rows_of(name)]


def frame(*names: str) -> pandas.DataFrame:
    """Return the same as a DataFrame; `repeat` is a whole number that may be missing. Raises NoRecordsError."""
    import pandas

    table = pandas.DataFrame(rows(*names), columns=list(records.COLUMNS))
    return table.astype({"repeat": "Int64", "second": "float64", "value": "float64"})
