"""The runs that are kept: what a folder of `.lab/results` holds. Reads result.json alone: old runs count too."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lab.results import LOAD, REPORT, RESULT, RESULTS, kind_of, too_new

if TYPE_CHECKING:
    from pathlib import Path


class UnknownRunError(Exception):
    """No run is called so; the text says where to look."""


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A folder, and the document in it; None where the run was interrupted, or has not come to its end."""

    folder: Path
    document: dict[str, Any] | None

    @property
    def name(self) -> str:
        """The folder's: the time of the run, and the experiment."""
        return self.folder.name

    @property
    def page(self) -> Path:
        """Path of its report, written or not."""
        return self.folder / REPORT

    @property
    def experiment(self) -> str:
        """Of which experiment; from the folder's name where nothing else tells."""
        return (self.document or {}).get("experiment") or self.name.partition("-")[2]

    @property
    def is_load(self) -> bool:
        """Return whether this is a load rather than an experiment's run."""
        return kind_of(self.document) == LOAD if self.document else "-load-" in self.name

    @property
    def trouble(self) -> str:
        """Return why the document cannot be shown, in one line; empty if it can."""
        return too_new(self.document) if self.document else ""

    @property
    def requests(self) -> int:
        """Return how many requests a load sent that had a response, or failed."""
        return sum(repeat["requests"] for repeat in (self.document or {}).get("repeats", ()))

    @property
    def failures(self) -> int:
        """Return how many of a load's requests failed, or had no response."""
        return sum(repeat["failures"] for repeat in (self.document or {}).get("repeats", ()))

    @property
    def begun(self) -> datetime | None:
        """Return when it began, UTC; None where the folder's name does not say."""
        try:
            return datetime.strptime(self.name.partition(".")[0], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
        except ValueError:
            return None

    @property
    def held(self) -> int:
        """Return how many of its checks hold."""
        return sum(check["holds"] is True for check in (self.document or {}).get("checks", ()))


def all_runs(results: Path = RESULTS) -> list[StoredRun]:
    """Every run, the newest first."""
    folders = [folder for folder in results.iterdir() if folder.is_dir()] if results.is_dir() else []
    return [StoredRun(folder, read(folder)) for folder in sorted(folders, key=lambda folder: folder.name, reverse=True)]


def named(name: str, results: Path = RESULTS) -> StoredRun:
    """The newest run whose folder begins with `name`, or else of the experiment `name`. Raises UnknownRunError."""
    name = name.rstrip("/").rpartition("/")[2]  # a path is how a shell completes it
    runs = all_runs(results)
    matching = [run for run in runs if run.name.startswith(name)] or [run for run in runs if run.experiment == name]
    if not matching:
        raise UnknownRunError(
            f"no run in {results} is called {name!r}, and none is of an experiment of that name: `lab report` makes an "
            "index of those that there are, `lab run NAME` a new one"
        )
    return matching[0]


def read(folder: Path) -> dict[str, Any] | None:
    """The document of a run; None where there is none, or half of one."""
    try:
        document = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return document if isinstance(document, dict) else None
