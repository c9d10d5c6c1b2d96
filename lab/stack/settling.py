"""The last step of `lab up`: waiting until every part that was declared answers, and saying for which."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Protocol

from lab.stack import containers, parts, supervision

SETTLE_SECONDS = 90.0
POLL_SECONDS = 0.1
SAY_SECONDS = 5.0
"""Interval in which a wait is told of where there is no terminal to draw a bar on."""


class Supervisor(Protocol):
    """A module that knows how the parts of a place are."""

    def missing(self, names: Sequence[str]) -> list[str]:
        """Those of the parts that do not answer."""

    def failed(self) -> list[str]:
        """The parts that have been given up."""

    def log_of(self, name: str) -> str:
        """Where to read what a part says."""

    def last_lines(self, name: str) -> str:
        """The end of a part's log, indented."""


SUPERVISORS: dict[str, Supervisor] = {"local": supervision, containers.PLACE: containers}


def settle(place: str) -> int:
    """Wait until every declared part answers; 1, and the end of the log of each that does not."""
    names, supervisor = parts.declared(), SUPERVISORS[place]
    if not names:
        print(f"no part was declared: {parts.DECLARED} names none")
        return 1
    left = wait(names, supervisor)
    for name in left:
        print(f"{name} does not answer. The end of its log ({supervisor.log_of(name)}):\n{supervisor.last_lines(name)}")
    return 1 if left else 0


def wait(names: Sequence[str], supervisor: Supervisor) -> list[str]:
    """Return the parts that do not answer when time is up, or that have been given up."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(file=sys.stderr)
    columns = BarColumn(bar_width=20), MofNCompleteColumn(), TextColumn("{task.description}", markup=False)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=len(names))
        deadline, said = time.monotonic() + SETTLE_SECONDS, time.monotonic()
        left = supervisor.missing(names)
        while left and time.monotonic() < deadline:
            if given_up := [name for name in supervisor.failed() if name in names]:
                return given_up
            waited_for = f"waiting for {', '.join(left)}"
            progress.update(bar, completed=len(names) - len(left), description=waited_for)
            if progress.disable and time.monotonic() > said + SAY_SECONDS:
                said = time.monotonic()
                print(waited_for, file=sys.stderr)
            time.sleep(POLL_SECONDS)
            # All of them again at the end: one may have ended after it answered.
            left = supervisor.missing(left) or supervisor.missing(names)
    return left
