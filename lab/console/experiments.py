"""Experiments on the page: the list of them, a run of one, and reports of runs that are over.

A run is `lab run NAME --quick --json --progress`: JSON documents on stdout, one an experiment (docs/design.md,
"Command line"), and on stderr lines such as `{"progress": 0.4, "doing": "arm herd, 2 of 5"}`. Results are in
`.lab/results/RUN/`.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from fastapi import Response
from fastapi.responses import FileResponse

from lab import settings
from lab.console.loads import end
from lab.report.page import INDEX
from lab.results import REPORT, RESULTS, runs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from fastapi import FastAPI

SAID_LINES = 5


class BusyError(Exception):
    """Something runs that would disturb the figures: another experiment, or a load."""


@dataclass(slots=True)
class State:
    """Progress of a run, and its result."""

    name: str = ""
    progress: float = 0.0
    doing: str = ""
    documents: list[dict[str, Any]] = field(default_factory=list)
    """One for each experiment that is over."""
    ended: bool = False
    problem: str = ""
    """Reason that there is no result."""


class Trial:
    """The one run that there may be at a time, whoever has started it, and none beside a load."""

    def __init__(
        self, program: Sequence[str] = (sys.executable, "-m", "lab"), under_load: Callable[[], Sequence[str]] = tuple
    ) -> None:
        self._program = program
        self._under_load = under_load
        self._process: subprocess.Popen[bytes] | None = None
        self._threads: list[threading.Thread] = []
        self._said: deque[str] = deque(maxlen=SAID_LINES)
        self.state = State()

    def runs(self) -> bool:
        """Return whether one runs."""
        return self._process is not None and not self.state.ended

    def running(self) -> str:
        """The name of the experiment that runs; empty if none does."""
        return self.state.name if self.runs() else ""

    def start(self, name: str) -> None:
        """Begin. Raises BusyError."""
        if self.runs():
            raise BusyError(f"{self.state.name} is still running")
        if models := self._under_load():
            raise BusyError(f"a load on {' and '.join(models)} would disturb the figures: stop it in Try it first")
        state = State(name)
        self._said.clear()
        process = subprocess.Popen(
            [*self._program, *arguments(name)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, start_new_session=True, cwd=settings.CHECKOUT,
        )  # fmt: skip
        self.state, self._process = state, process
        assert process.stdout is not None
        assert process.stderr is not None
        progress = threading.Thread(target=self._read_progress, args=(state, process.stderr), daemon=True)
        results = threading.Thread(target=self._read_results, args=(state, process, progress), daemon=True)
        self._threads = [progress, results]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the run, if there is one."""
        if self._process is not None and self._process.poll() is None:
            self.state.problem = "stopped"
            end(self._process)

    def close(self) -> None:
        """End what runs, and wait for its last words."""
        self.stop()
        for thread in self._threads:
            thread.join()

    def _read_progress(self, state: State, stream: IO[bytes]) -> None:
        for line in stream:
            document = read_document(line)
            if document and "progress" in document:
                state.progress = min(1.0, max(0.0, float(document["progress"])))
                state.doing = str(document.get("doing", ""))
            elif text := line.decode(errors="replace").strip():
                self._said.append(text)

    def _read_results(self, state: State, process: subprocess.Popen[bytes], progress: threading.Thread) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if (document := read_document(line)) and "verdict" in document:
                state.documents.append(document)
        code = process.wait()
        progress.join()
        if not state.documents and not state.problem:
            state.problem = self._said[-1] if self._said else f"it ended with {code} and said nothing"
        state.ended = True


def arguments(name: str) -> list[str]:
    """Of `lab`."""
    return ["run", name, "--quick", "--json", "--progress"]


def command(name: str) -> str:
    """Return the command that does the same."""
    return shlex.join(["lab", "run", name, "--quick"])


def read_document(line: bytes) -> dict[str, Any] | None:
    """A line that is a JSON object; None for any other."""
    try:
        document = json.loads(line)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


# Reports.


def latest_report(name: str, results: Path = RESULTS) -> str:
    """The address of the latest report on an experiment, on this page; empty where there is none."""
    for run in reversed(runs(results)):
        if run.experiment == name and run.page.is_file():
            return f"/results/{run.name}/{REPORT}"
    return ""


def add_reports(app: FastAPI, results: Path = RESULTS) -> None:
    """Serve the reports and their index, and no other file."""

    @app.get(f"/results/{INDEX}")
    def index() -> Response:
        return page_or_404(results / INDEX)

    @app.get(f"/results/{{run}}/{REPORT}")
    def report(run: str) -> Response:
        path = results / run / REPORT
        # A run's name is one part of a path; what is not directly below the results is none of our business.
        return page_or_404(path) if path.resolve().parent.parent == results.resolve() else not_found()


def page_or_404(path: Path) -> Response:
    """The page, if it is there."""
    return FileResponse(path, media_type="text/html") if path.is_file() else not_found()


def not_found() -> Response:
    """For an address without a page."""
    return Response("There is no such report.", status_code=404, media_type="text/plain")
