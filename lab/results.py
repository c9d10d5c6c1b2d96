"""The folder `.lab/results`: a folder for each run, with its document `result.json`, and a bound on all of them.

A run's folder is called `<time>-<name>`. Its document is written last and at once, so a folder without one is a run
that was interrupted, or has not come to its end.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import records, state_folder
from lab.settings import STATE_DIR, SettingError, variable

if TYPE_CHECKING:
    import pandas

RESULTS = STATE_DIR / "results"
RESULT, REPORT = "result.json", "report.html"
SCHEMA = 2
"""Schema 1 is that of experiments, whose documents do not say it; 2 adds loads."""
NO_RESULT = "has no result: it was interrupted, or is still running"
KEEP = "LAB_RESULTS_KEEP"
KEEP_RUNS, KEEP_BYTES = 200, 2_000_000_000
UNFINISHED_SECONDS = 3600.0
"""A folder without a document, and this young, may be that of a run that is still going on."""


class ResultsError(Exception):
    """A run cannot be read; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run's folder, and the document in it; None where the run was interrupted, or has not come to its end."""

    folder: Path
    document: dict[str, Any] | None

    @property
    def name(self) -> str:
        """Return the folder's name: the time of the run, and of what it is."""
        return self.folder.name

    @property
    def begun(self) -> datetime | None:
        """Return when it began, UTC; None where the folder's name does not say."""
        try:
            return datetime.strptime(self.name.partition(".")[0], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
        except ValueError:
            return None

    @property
    def page(self) -> Path:
        """Path of its report, written or not."""
        return self.folder / REPORT

    @property
    def kind(self) -> str:
        """Return load, experiment, benchmark or fidelity; empty where no document tells."""
        try:
            return records.kind_of(self.document)
        except records.NoRecordsError:
            return ""

    @property
    def is_load(self) -> bool:
        """Return whether this is a load and no experiment's run; by the folder's name where nothing else tells."""
        return self.kind == records.LOAD if self.document else "-load-" in self.name

    @property
    def is_fidelity(self) -> bool:
        """Return whether models were compared with real systems."""
        return self.kind == records.FIDELITY

    @property
    def trouble(self) -> str:
        """Return why the document cannot be shown, in one line; empty if it can."""
        return too_new(self.document) if self.document else NO_RESULT

    @property
    def pinned(self) -> bool:
        """Return whether the run is to stay."""
        return bool((self.document or {}).get("pinned"))

    @property
    def experiment(self) -> str:
        """Of which experiment; from the folder's name where nothing else tells."""
        return (self.document or {}).get("experiment") or self.name.partition("-")[2]

    @property
    def held(self) -> int:
        """Return how many of its checks hold."""
        return sum(check["holds"] is True for check in (self.document or {}).get("checks", ()))

    @property
    def requests(self) -> int:
        """Return how many requests a load sent that had a response, or failed."""
        return sum(repeat["requests"] for repeat in (self.document or {}).get("repeats", ()))

    @property
    def failures(self) -> int:
        """Return how many of a load's requests failed, or had no response."""
        return sum(repeat["failures"] for repeat in (self.document or {}).get("repeats", ()))


def new_folder(name: str, begun: datetime, results: Path | None = None) -> Path:
    """Make the folder of a run that began then, UTC: two in one millisecond get two. Raises OSError without room."""
    results = results or RESULTS
    state_folder.require_room(results)
    stem = f"{begun:%Y%m%dT%H%M%S.%f}"[:-3]
    for number in range(1, 1000):
        folder = results / (f"{stem}-{name}" if number == 1 else f"{stem}-{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise ResultsError(f"{results} has a thousand runs of one millisecond: `lab results prune --keep 0` removes them")


def write(folder: Path, document: dict[str, Any]) -> None:
    """Write the document of a run."""
    put(folder / RESULT, json.dumps(document, ensure_ascii=False))


def put(file: Path, text: str) -> None:
    """Write a file, all or nothing: two runs may end at the same time, and somebody may read meanwhile."""
    new = file.with_name(f"{file.name}.{os.getpid()}.new")
    try:
        new.write_text(text, encoding="utf-8")
        new.replace(file)
    except OSError:
        with contextlib.suppress(OSError):  # half of it, where a disk is full
            new.unlink()
        raise


def runs(results: Path | None = None) -> list[StoredRun]:
    """Return the stored runs, the oldest first."""
    results = results or RESULTS
    folders = [folder for folder in results.iterdir() if folder.is_dir()] if results.is_dir() else []
    return [run_in(folder) for folder in sorted(folders, key=lambda folder: folder.name)]


def run_in(folder: Path) -> StoredRun:
    """Return the run of this folder. Raises PermissionError for one that is somebody else's, and closed."""
    try:
        document = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except PermissionError:
        raise
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):  # there is none, or half of one
        document = None
    return StoredRun(folder, document if isinstance(document, dict) else None)


def named(name: str | Path, results: Path | None = None) -> StoredRun:
    """Return a run by its folder, which may be elsewhere, its name, or the beginning of one; or else the last of an
    experiment. Raises ResultsError where there is none.
    """
    path, results = Path(name), results or RESULTS
    if (path / RESULT).is_file():
        return run_in(path)
    known = runs(results)
    found = [run for run in known if path.name and run.name.startswith(path.name)]
    found = found or [run for run in known if run.experiment == path.name]
    if not found:
        raise ResultsError(f"no run in {results} is called {path.name!r}: `lab results list` shows those there are")
    return found[-1]


def load_run(name: str | Path, results: Path | None = None) -> dict[str, Any]:
    """Return the document of a run. Raises ResultsError as `find_run` does."""
    return find_run(name, results)[1]


def find_run(name: str | Path, results: Path | None = None) -> tuple[str, dict[str, Any]]:
    """Return name and document of a run as `named` finds it, or of a file. Raises ResultsError."""
    path = Path(name)
    if path.is_file():
        return path.name, _of_file(path)
    run = named(name, results)
    if run.document is None or run.trouble:
        raise ResultsError(f"{run.name} {run.trouble}")
    return run.name, run.document


def _of_file(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ResultsError(f"{path} is no JSON document: {error}") from error
    if not isinstance(document, dict):
        raise ResultsError(f"{path} is no run: a run is a JSON object")
    if trouble := too_new(document):
        raise ResultsError(f"{path} {trouble}")
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
    text = variable(KEEP, str(KEEP_RUNS))
    if not text.isdecimal() or int(text) < 1:
        raise SettingError(f"{KEEP}={text!r}: give a number of runs from 1, for example {KEEP_RUNS}")
    return int(text)


def prune(
    keep: int | None = None, keep_bytes: int = KEEP_BYTES, results: Path | None = None, *, dry_run: bool = False
) -> list[str]:
    """Remove the oldest runs until at most `keep`, and `keep_bytes`, are left; return their names.

    Pinned runs stay, and so do runs that have not come to their end. Both count.
    """
    left = runs(results)
    keep = keep_from_environment() if keep is None else keep
    sizes = {run.name: _size(run.folder) for run in left}
    number, total = len(left), sum(sizes.values())
    removed = []
    for run in left:
        if number <= keep and total <= keep_bytes:
            break
        if run.pinned or _unfinished(run):
            continue
        if not dry_run:
            shutil.rmtree(run.folder, ignore_errors=True)  # another lab may prune at the same moment
        removed.append(run.name)
        number, total = number - 1, total - sizes[run.name]
    return removed


def _size(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.lstat().st_size
        except OSError:  # removed meanwhile
            continue
    return total


def _unfinished(run: StoredRun) -> bool:
    try:
        return run.document is None and time.time() - run.folder.stat().st_mtime < UNFINISHED_SECONDS
    except OSError:
        return False


def pin(name: str, results: Path | None = None, *, pinned: bool = True) -> str:
    """Have a run stay, or no longer; return its name. Raises ResultsError."""
    run = named(Path(name).name, results)
    write(run.folder, {**load_run(run.folder), "pinned": pinned})
    return run.name
