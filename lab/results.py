"""The folder `.lab/results`: a folder for each run, with its document `result.json`, and a bound on all of them.

A run's folder is called `<time>-<name>`. Its document is written last and at once, so a folder without one is a run
that was interrupted, or has not come to its end.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import records
from lab.settings import STATE_DIR, SettingError

if TYPE_CHECKING:
    import pandas

RESULTS = STATE_DIR / "results"
RESULT, REPORT = "result.json", "report.html"
SCHEMA = 2
"""Schema 1 is that of experiments, whose documents do not say it; 2 adds loads."""
LOAD, EXPERIMENT, BENCHMARK = "load", "experiment", "benchmark"
KEEP = "LAB_RESULTS_KEEP"
KEEP_RUNS, KEEP_BYTES = 200, 2_000_000_000
UNFINISHED_SECONDS = 3600.0
"""A folder without a document, and this young, may be that of a run that is still going on."""


class ResultsError(Exception):
    """A run cannot be read; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A run's folder, and its document; None where it has none, or one that is broken."""

    folder: Path
    document: dict[str, Any] | None

    @property
    def id(self) -> str:
        """Return the folder's name."""
        return self.folder.name

    @property
    def kind(self) -> str:
        """Return load, experiment or benchmark; empty without a document."""
        return kind_of(self.document) if self.document else ""

    @property
    def pinned(self) -> bool:
        """Return whether the run is to stay."""
        return bool(self.document and self.document.get("pinned"))


def kind_of(document: dict[str, Any]) -> str:
    """Return load, experiment or benchmark; documents of schema 1 are told by their content."""
    kind = document.get("kind")
    return kind if isinstance(kind, str) else (BENCHMARK if "spreads" in document else EXPERIMENT)


def new_folder(name: str, begun: datetime, results: Path | None = None) -> Path:
    """Make the folder of a run that began then, UTC: two in one millisecond get two."""
    results = results or RESULTS
    stem = f"{begun:%Y%m%dT%H%M%S.%f}"[:-3]
    for number in range(1, 1000):
        folder = results / (f"{stem}-{name}" if number == 1 else f"{stem}-{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise ResultsError(f"{results} has a thousand runs of one millisecond: `lab results prune --keep 0` removes them")


def write(file: Path, document: dict[str, Any]) -> None:
    """Write a document, all or nothing for whoever reads meanwhile."""
    new = file.with_suffix(".new")
    new.write_text(json.dumps(document, ensure_ascii=False, indent=None), encoding="utf-8")
    new.replace(file)


def runs(results: Path | None = None) -> list[Stored]:
    """Return the stored runs, the oldest first."""
    results = results or RESULTS
    folders = [folder for folder in results.iterdir() if folder.is_dir()] if results.is_dir() else []
    return [Stored(folder, read(folder)) for folder in sorted(folders, key=lambda folder: folder.name)]


def read(folder: Path) -> dict[str, Any] | None:
    """Return the document of a run; None where there is none, or half of one."""
    try:
        document = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        return None
    return document if isinstance(document, dict) else None


def load_run(name: str | Path, results: Path | None = None) -> dict[str, Any]:
    """Return the document of a run. Raises ResultsError as `find_run` does."""
    return find_run(name, results)[1]


def find_run(name: str | Path, results: Path | None = None) -> tuple[str, dict[str, Any]]:
    """Return id and document of a run by its id, the beginning of one, its folder, or its file; or else the last run of
    that name. Raises ResultsError.
    """
    path = Path(name)
    if path.is_file():
        return path.name, _checked(str(path), _of_file(path))
    folder = path if (path / RESULT).is_file() else _folder_named(path.name, results or RESULTS)
    document = read(folder)
    if document is None:
        raise ResultsError(f"{folder.name} has no result: it was interrupted, or is still running")
    return folder.name, _checked(folder.name, document)


def _folder_named(name: str, results: Path) -> Path:
    known = runs(results)
    found = [run for run in known if run.id.startswith(name)]
    found = found or [run for run in known if run.id.partition("-")[2] == name]
    if not found or not name:
        raise ResultsError(f"no run in {results} is called {name!r}: `lab results list` shows those that there are")
    return found[-1].folder


def _of_file(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ResultsError(f"{path} is no JSON document: {error}") from error
    if not isinstance(document, dict):
        raise ResultsError(f"{path} is no run: a run is a JSON object")
    return document


def _checked(name: str, document: dict[str, Any]) -> dict[str, Any]:
    if trouble := too_new(document):
        raise ResultsError(f"{name} {trouble}")
    return document


def too_new(document: dict[str, Any]) -> str:
    """Return why this lab cannot read a document, in one line; empty if it can."""
    schema = document.get("schema", 1)
    if isinstance(schema, int) and 1 <= schema <= SCHEMA:
        return ""
    return f"has schema {schema!r}, and this lab reads 1 to {SCHEMA}: read it with the lab that wrote it"


# For notebooks.


def rows(*names: str) -> list[dict[str, Any]]:
    """Return runs, by name or file, as the rows that docs/analysis.md explains. Raises ResultsError, NoRecordsError."""
    found = [find_run(name) for name in names]
    return [row for run, document in found for row in records.rows(document, run)]


def frame(*names: str) -> pandas.DataFrame:
    """Return the same as a DataFrame. `repeat` is a whole number that may be missing."""
    import pandas

    table = pandas.DataFrame(rows(*names), columns=list(records.COLUMNS))
    return table.astype({"repeat": "Int64", "second": "float64", "value": "float64"})


# The bound.


def keep_from_environment() -> int:
    """Return how many runs are kept. Raises SettingError for a wrong LAB_RESULTS_KEEP."""
    text = os.environ.get(KEEP, str(KEEP_RUNS))
    if not text.isdecimal() or int(text) < 1:
        raise SettingError(f"{KEEP}={text!r}: give a number of runs from 1, for example {KEEP_RUNS}")
    return int(text)


def prune(
    keep: int | None = None, keep_bytes: int = KEEP_BYTES, results: Path | None = None, *, dry_run: bool = False
) -> list[str]:
    """Remove the oldest runs until at most `keep`, and `keep_bytes`, are left; return their ids.

    Pinned runs stay, and so do runs that have not come to their end. Both count.
    """
    left = runs(results)
    keep = keep_from_environment() if keep is None else keep
    sizes = {run.id: _size(run.folder) for run in left}
    number, total = len(left), sum(sizes.values())
    removed = []
    for run in left:
        if number <= keep and total <= keep_bytes:
            break
        if run.pinned or _unfinished(run):
            continue
        if not dry_run:
            shutil.rmtree(run.folder, ignore_errors=True)  # another lab may prune at the same moment
        removed.append(run.id)
        number, total = number - 1, total - sizes[run.id]
    return removed


def _size(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.lstat().st_size
        except OSError:  # removed meanwhile
            continue
    return total


def _unfinished(run: Stored) -> bool:
    try:
        return run.document is None and time.time() - run.folder.stat().st_mtime < UNFINISHED_SECONDS
    except OSError:
        return False


def pin(name: str, results: Path | None = None, *, pinned: bool = True) -> str:
    """Have a run stay, or no longer; return its id. Raises ResultsError."""
    folder = _folder_named(Path(name).name, results or RESULTS)
    document = load_run(folder.name, results)
    write(folder / RESULT, {**document, "pinned": pinned})
    return folder.name


def now() -> datetime:
    """Return the time for a folder's name."""
    return datetime.now(UTC)
