"""`lab fidelity`: starts the sandbox, judges what is measured in it, and keeps the result."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lab.fidelity.judge import inconclusive, judged, unexplained
from lab.fidelity.reals import KINDS as REALS
from lab.fidelity.rows import ROWS
from lab.measure import environment
from lab.records import FIDELITY
from lab.results import RESULTS, SCHEMA, new_folder, prune, write
from lab.sandbox import outside

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from lab.fidelity.show import Progress

LOG = "log"
REPEATS = 3
LAST_WORDS_BYTES = 2000


class RunError(Exception):
    """The comparison came to no result; the text says why and where to look."""


def run(*, quick: bool, progress: Progress, only: Sequence[str] = (), repeats: int = 0) -> tuple[Path, dict[str, Any]]:
    """Measure every row whose real system is installed; return folder and document. Raises RunError, SandboxError.

    `only` names real systems: the others' rows are left out. `repeats` 0: one in the quick form, else three.
    """
    outside.working_form()
    versions = {name: kind.available() for name, kind in REALS.items() if not only or name in only}
    chosen = [number for number, row in enumerate(ROWS) if versions.get(row.real.name) and (row.quick or not quick)]
    if not chosen:
        raise RunError(f"none of {', '.join(versions) or 'these systems'} is installed: `make peers` gets them")
    begun, started = datetime.now(UTC), time.monotonic()
    folder = new_folder(FIDELITY, begun, RESULTS)
    rows, failed = _measure(chosen, repeats or (1 if quick else REPEATS), folder, progress)
    document = {
        "schema": SCHEMA,
        "begun": begun.isoformat(),
        "command": _command(only, repeats, quick=quick),
        "effort": "quick" if quick else "full",
        "environment": environment.describe(),
        "peers": {name: version for name, version in versions.items() if version},
        "missing": {name: REALS[name].HOW_TO_GET for name, version in versions.items() if not version},
        "rows": rows,
        "failed": failed,
        "unexplained": unexplained(rows),
        "inconclusive": inconclusive(rows),
        "seconds": round(time.monotonic() - started, 1),
    }
    write(folder, document)
    prune(results=RESULTS)
    return folder, document


def _command(only: Sequence[str], repeats: int, *, quick: bool) -> str:
    """Return the command that repeats the run."""
    times = [f"--repeats {repeats}"] if repeats else []
    return " ".join(["lab fidelity", *(["--quick"] if quick else []), *times, *(f"--only {name}" for name in only)])


def _measure(
    chosen: Sequence[int], repeats: int, folder: Path, progress: Progress
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the rows, judged, and a line for each that could not be measured. Raises RunError."""
    rows, failed = [], []
    for said in _said([sys.executable, "-m", "lab.fidelity", str(repeats), *map(str, chosen)], folder):
        if "progress" in said:
            progress(said["progress"], said["doing"])
        elif "error" in said:
            row = ROWS[said["row"]]
            failed.append(f"{row.signature.text} ({row.model.label} | {row.real.label}): {said['error']}")
        else:
            rows.append(judged(ROWS[said["row"]], said))
    return rows, failed


def _said(command: Sequence[str], folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what the sandbox says, until its end. Raises RunError."""
    with outside.launched(command, folder / LOG) as process:
        for line in process.stdout or ():
            yield json.loads(line)
        code = process.wait()
    if code:
        words = (folder / LOG).read_bytes()[-LAST_WORDS_BYTES:].decode(errors="replace").strip()
        reason = (words.splitlines() or ["it said nothing"])[-1]
        raise RunError(f"the sandbox ended with {code}: {reason} (log: {folder / LOG})")
