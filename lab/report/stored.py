"""The runs that are kept: what a folder of `.lab/results` holds. Reads result.json alone: old runs count too."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lab.measure.running import RESULT, RESULTS

if TYPE_CHECKING:
    from pathlib import Path

PAGE = "report.html"


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
        """Where its report is, or would be."""
        return self.folder / PAGE

    @property
    def experiment(self) -> str:
        """Of which experiment; from the folder's name where nothing else tells."""
        return (self.document or {}).get("experiment") or self.name.partition("-")[2]

    @property
    def begun(self) -> datetime | None:
        """When, UTC; None where the folder's name does not say."""
        try:
            return datetime.strptime(self.name.partition(".")[0], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
        except ValueError:
            return None

    @property
    def held(self) -> int:
        """How many of its checks hold."""
        return sum(check["holds"] is True for check in self.document["checks"]) if self.document else 0


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
