"""Loads that the page starts: each is `lab load` itself, run as a process of its own.

So the page and the terminal do the very same thing.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from lab import settings
from lab.load.result import FAILURES, GOOD, SATURATED_EXIT
from lab.measure.latencies import milliseconds

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_USERS, MOST_SECONDS = 2000, 600
STOP_SECONDS = 10.0
"""A load that is stopped waits for its last responses and two scrapes, and is stored."""
OUTCOMES = {
    GOOD: "ended: nothing failed",
    FAILURES: "ended: some requests or connections failed, or had no response",
    SATURATED_EXIT: "ended: the generator was saturated, so its figures are its own",
}


class LoadError(Exception):
    """A load that cannot be started; the text says why."""


@dataclass(frozen=True, slots=True)
class Load:
    """Choices on the page."""

    model: str = "nginx"
    requests: str = "cheap"
    """One of `REQUESTS`."""
    keep_alive: bool = True
    users: int = 50
    rate: float = 50.0
    """Users started a second."""
    seconds: int = 30
    think_ms: int = 10
    block_ms: int = 20
    """Of a heavy request: it blocks its worker for so long …"""
    cpu_ms: int = 0
    """… and uses so much of the processor."""

    @property
    def kind(self) -> str:
        """The kind of user that does so."""
        return {"cheap": "keep-alive" if self.keep_alive else "connect", "heavy": "work", "hot": "hot"}[self.requests]

    def arguments(self, *, as_json: bool = False) -> list[str]:
        """Of `lab`."""
        words = [
            "load",
            self.model,
            *(["--json"] if as_json else []),
            "--users",
            str(self.users),
            "--rate",
            f"{self.rate:g}",
        ]
        words += ["--seconds", str(self.seconds), "--kind", self.kind, "--", "--think", f"{self.think_ms / 1000:g}"]
        if self.requests != "cheap":
            words += ["--block", f"{self.block_ms}ms", "--cpu", f"{self.cpu_ms}ms"]
        if self.requests == "heavy" and not self.keep_alive:
            words.append("--no-keep-alive")
        return words

    def command(self) -> str:
        """Return the command that does the same."""
        return shlex.join(["lab", *self.arguments()])


PRESETS: dict[str, dict[str, Any]] = {
    "Steady": {"requests": "cheap", "keep_alive": True, "users": 50, "rate": 50.0, "think_ms": 10},
    "A connection each": {"requests": "cheap", "keep_alive": False, "users": 50, "rate": 50.0, "think_ms": 10},
    "Fill the accept queue": {"requests": "heavy", "keep_alive": False, "users": 400, "rate": 400.0, "think_ms": 0,
                              "block_ms": 1000, "cpu_ms": 0},
    "One hot connection": {"requests": "hot", "keep_alive": True, "users": 20, "rate": 20.0, "think_ms": 50,
                           "block_ms": 0, "cpu_ms": 50},
}  # fmt: skip
"""Loads that a teacher shows first."""


@dataclass(slots=True)
class Running:
    """A load that was started."""

    load: Load
    process: subprocess.Popen[bytes]
    output: IO[bytes]
    began: float = field(default_factory=time.monotonic)
    stopped: bool = False

    def status(self) -> str:
        """Return in words how it goes, or ended."""
        code = self.process.poll()
        if code is None:
            return f"{self.load.users} users on {self.load.model} for {self.load.seconds} s"
        if self.stopped:
            return "stopped"
        return OUTCOMES.get(code, f"did not run: {self.last_words()}")

    def progress(self) -> float:
        """Return the share of its time that is over, 0 to 1."""
        return min(1.0, (time.monotonic() - self.began) / self.load.seconds)

    def figures(self) -> list[str]:
        """Return the quantiles of each kind of request, a line each, when it has ended; none if it did not run."""
        begin = -1 if self.process.poll() is None else self.said().find("{")
        if begin < 0:
            return []
        try:
            document, _ = json.JSONDecoder().raw_decode(self.said(), begin)
            return lines_of(document["repeats"])
        except (ValueError, KeyError, TypeError):  # some other text with a brace in it
            return []

    def last_words(self) -> str:
        """The last line that it has printed."""
        lines = self.said().splitlines()
        return lines[-1] if lines else "it has said nothing"

    def said(self) -> str:
        """All that it has printed."""
        self.output.seek(0)
        return self.output.read().decode(errors="replace").strip()


class Loads:
    """At most one load a model, whoever has started it, and none beside an experiment."""

    def __init__(
        self, program: tuple[str, ...] = (sys.executable, "-m", "lab"), experiment: Callable[[], str] = str
    ) -> None:
        self._program = program
        self._experiment = experiment
        """The name of the experiment that runs now; empty if none does."""
        self._runs: dict[str, Running] = {}

    def start(self, load: Load) -> None:
        """Begin. Raises LoadError where one runs already, or the numbers are out of bounds."""
        if self.runs(load.model):
            raise LoadError(f"{load.model} is under load already: stop that first")
        if name := self._experiment():
            raise LoadError(f"the experiment {name} is running: a load would disturb what it measures")
        if not 1 <= load.users <= MOST_USERS or not 1 <= load.seconds <= MOST_SECONDS or load.rate <= 0:
            raise LoadError(f"give 1 to {MOST_USERS} users, 1 to {MOST_SECONDS} s and a rate above 0")
        before = self.last(load.model)
        output = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the run
        # A group of its own, so that Locust below it ends with it.
        process = subprocess.Popen(
            [*self._program, *load.arguments(as_json=True)], stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True, cwd=settings.CHECKOUT,
            env={**os.environ, "COLUMNS": "100"},
        )  # fmt: skip
        self._runs[load.model] = Running(load, process, output)
        if before is not None:
            before.output.close()

    def last(self, model: str) -> Running | None:
        """The latest load on the model."""
        return self._runs.get(model)

    def runs(self, model: str) -> bool:
        """Return whether the model is under load."""
        running = self.last(model)
        return running is not None and running.process.poll() is None

    def under_load(self) -> list[str]:
        """The models that are under load."""
        return [model for model in self._runs if self.runs(model)]

    def stop(self, model: str) -> None:
        """End the model's load, if there is one."""
        running = self.last(model)
        if running is not None and running.process.poll() is None:
            running.stopped = True
            end(running.process)

    def close(self) -> None:
        """End all of them."""
        for model in list(self._runs):
            self.stop(model)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all below it: they are a session of their own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(STOP_SECONDS)
        except ProcessLookupError:
            process.poll()
        except subprocess.TimeoutExpired:
            continue
        return


def in_a_line(name: str, count: int, quantiles_ms: dict[str, float | None]) -> str:
    """Return a row of `lab load`'s table, for a place that is narrow."""
    shown = (f"{share} {milliseconds(value)}" for share, value in quantiles_ms.items() if value is not None)
    return f"{name}, {count:,} in ms: {', '.join(shown)}"


def lines_of(repeats: list[dict[str, Any]]) -> list[str]:
    """Return the figures of a load, a line each."""
    rows = [row for repeat in repeats for row in repeat["rows"]]
    lines = [in_a_line(row["name"], row["count"], row["quantiles_ms"]) for row in rows]
    silent = sum(repeat["no_response"] for repeat in repeats)
    return [*lines, *([f"{silent} requests had no response at the end"] if silent else [])]
