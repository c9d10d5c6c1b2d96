"""SIGKILL at random moments of `lab up`, `run`, `load`, `set` and `down`: after the next `lab down` nothing is left of
the stack, and of the other commands at once.

All of it happens in a sandbox (lab/sandbox/outside.py): a machine of its own, whose /tmp is empty, whose network has no
rules, and all of whose processes are the lab's. `kills_inside.py` is what runs in there.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reliability.figures import Check, Figures

from lab.sandbox import outside
from lab.settings import CHECKOUT

STACK, ONE_SERVER = ("up", "down"), ("run", "load", "set")
COMMANDS = (*STACK, *ONE_SERVER)
LONG = {"up": 50, "down": 50, "run": 30, "load": 35, "set": 35}
SHORT = {"up": 1, "down": 1, "run": 1, "load": 1, "set": 2}
LAST_WORDS = 2000


@dataclass(frozen=True)
class Kills(Figures):
    """Kills of one command. `missed` are those for which the command was too quick, and which count for nothing."""

    killed: int
    missed: int
    first_seconds: float
    """The earliest and the latest moment of a kill, after the command's start."""
    last_seconds: float
    left: list[str] = field(default_factory=list)
    """Everything that was left behind, of all kills."""
    failures: list[str] = field(default_factory=list)
    """Commands that did not work after a kill."""

    @property
    def size(self) -> str:
        """Return how many kills, and when."""
        return f"{self.killed} kills, {self.first_seconds:.1f} to {self.last_seconds:.1f} s after the start"

    def checks(self) -> list[Check]:
        """Return the judgements."""
        after = "after the next `lab down`" if self.subject[4:] in STACK else "at once"
        return [
            Check(f"left {after}", counted(self.left), "nothing", not self.left),
            Check("commands that failed afterwards", counted(self.failures), "none", not self.failures),
            Check("killed in time", f"{self.killed} of {self.killed + self.missed}", "at least 1", self.killed > 0),
        ]


def counted(things: list[str]) -> str:
    """Return how many things there are and the first of them; "0" for none."""
    return f"{len(things)}: {'; '.join(things[:5])}" if things else "0"


def kills(sizes: Mapping[str, int], seed: int | None = None, seconds: float = 540.0) -> list[Kills]:
    """Kill each command so often, for so many seconds at most. Raises SandboxError where there can be no sandbox."""
    seed = random.randrange(1 << 32) if seed is None else seed
    found: dict[str, list[dict[str, Any]]] = {command: [] for command in sizes}
    for trial in trials(sizes, seed, seconds):
        found[trial["command"]].append(trial)
    return [figures_of(command, trials) for command, trials in found.items() if trials]


def trials(sizes: Mapping[str, int], seed: int, seconds: float) -> Iterator[dict[str, Any]]:
    """Yield what each trial in the sandbox has shown."""
    paths = os.pathsep.join((str(CHECKOUT), str(CHECKOUT / "tests")))
    words = [json.dumps({"sizes": dict(sizes), "seed": seed, "seconds": seconds})]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        command = ["env", f"PYTHONPATH={paths}", sys.executable, "-m", "reliability.kills_inside", *words]
        with outside.launched(command, log) as process:
            assert process.stdout is not None
            for line in process.stdout:
                yield json.loads(line)
            code = process.wait()
        said = log.read_text(encoding="utf-8", errors="replace")[-LAST_WORDS:]
        assert code == 0, f"the campaign broke off with {code}: {said}"


def figures_of(command: str, found: list[dict[str, Any]]) -> Kills:
    """Put the trials of one command together."""
    moments = [trial["seconds"] for trial in found if not trial["missed"]]
    return Kills(
        f"lab {command}",
        len(moments),
        len(found) - len(moments),
        min(moments, default=0.0),
        max(moments, default=0.0),
        [line for trial in found for line in trial["left"]],
        [line for trial in found for line in trial["failures"]],
    )
