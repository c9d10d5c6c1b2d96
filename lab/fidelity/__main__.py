"""Inside the sandbox: measures every row, model and real in turn, for the process that started it, which judges.

    python -m lab.fidelity REPEATS [NUMBER…]

prints one JSON document a line: `{"progress": 0.5, "doing": "…"}`, and `{"row": 3, "model": […], "real": […], "wrong":
[…], "others": 0.1}`, or `{"row": 3, "error": "…"}` for a row that could not be measured.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any

from lab.fidelity.rows import ROWS
from lab.fidelity.running import FidelityError, started
from lab.measure.foreign_cpu import ForeignCpu
from lab.peers.process import PeerError
from lab.sandbox.outside import TEMPORARY

if TYPE_CHECKING:
    from lab.fidelity.row import Row
    from lab.fidelity.system import System

MOST_SECONDS = 180
"""Of one figure: far more than any takes on a busy machine. What hangs is named, and the next row measured."""
MOST_BYTES = 512 * 2**20
"""Of files in the sandbox, which are memory: a database and its journal, and some copies of a long response."""


def main() -> None:
    """Measure the rows that the command line names by their numbers."""
    repeats, *numbers = map(int, sys.argv[1:])
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={MOST_BYTES},mode=1777", "none", str(TEMPORARY)], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    signal.signal(signal.SIGALRM, give_up)
    tempfile.tempdir = str(TEMPORARY)
    for done, number in enumerate(numbers):
        row = ROWS[number]
        say(progress=done / len(numbers), doing=f"{row.signature.text}: {row.real.label}")
        try:
            say(row=number, **measured(row, max(repeats, row.least_repeats)))
        except (FidelityError, PeerError, OSError, EOFError, subprocess.SubprocessError) as error:
            say(row=number, error=f"{type(error).__name__}: {error}")


def measured(row: Row, repeats: int) -> dict[str, Any]:
    """Return the figures of both, which take turns, and of the control's model, once."""
    figures: dict[str, list[float]] = {"model": [], "real": [], "wrong": []}
    others = ForeignCpu(os.sched_getaffinity(0))
    for repeat in range(repeats):
        sides = [("model", row.model), ("real", row.real)]
        for side, system in sides[:: 1 if repeat % 2 == 0 else -1]:
            figures[side].append(_figure(row, system, others))
    if row.wrong:
        figures["wrong"].append(_figure(row, row.wrong, others))
    return {**figures, "others": others.share()}


def _figure(row: Row, system: System, others: ForeignCpu) -> float:
    signal.alarm(MOST_SECONDS)
    with started(system) as running:
        figure = round(row.signature.measure(running), 4)
    signal.alarm(0)
    others.count_as_ours(running.orphans_seconds)
    return figure


def give_up(*_: object) -> None:
    """Called at SIGALRM. Raises FidelityError."""
    raise FidelityError(f"not measured within {MOST_SECONDS} s")


def say(**document: object) -> None:
    """One line for whoever started us."""
    print(json.dumps(document), flush=True)


if __name__ == "__main__":
    main()
