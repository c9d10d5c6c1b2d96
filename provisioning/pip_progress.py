"""`pip install` that shows how far it is.

On a terminal a line that is overwritten, elsewhere a line now and then. What pip says is shown only if it fails.
Python's own library only: nothing is installed yet.
"""

from __future__ import annotations

import contextlib
import queue
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

LOOK_SECONDS = 0.2
SAY_SECONDS = 10.0
"""Interval in which it is told where there is no terminal."""
BAR = 30
COLLECTING, INSTALLING = "Collecting ", "Installing collected packages: "


@dataclass
class Progress:
    """Progress of pip. What it installs, it names only when it has collected all of it."""

    collected: int = 0
    last: str = ""
    names: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def hear(self, line: str) -> None:
        """Take in one line of pip's."""
        self.said.append(line)
        if line.startswith(COLLECTING):
            self.collected += 1
            self.last = line.removeprefix(COLLECTING).split(" (")[0]
        elif line.startswith(INSTALLING):
            self.names = line.removeprefix(INSTALLING).split(", ")

    def shown(self, packages: Path) -> str:
        """Return how far it is; `packages` is the folder that pip installs into."""
        if not self.names:
            return f"collecting packages: {self.collected} so far" + (f", {self.last}" if self.last else "")
        there = {file.name.split("-")[0].lower().replace("_", "-") for file in packages.glob("*.dist-info")}
        done = sum(name.lower().replace("_", "-").replace(".", "-") in there for name in self.names)
        filled = BAR * done // len(self.names)
        return f"installing packages: [{'#' * filled}{'.' * (BAR - filled)}] {done} of {len(self.names)}"


def follow(pip: subprocess.Popen[str], progress: Progress) -> int:
    """Show the progress until pip ends; its exit code."""
    lines: queue.Queue[str] = queue.Queue()
    assert pip.stdout
    reader = threading.Thread(target=lambda: [lines.put(line.rstrip("\n")) for line in pip.stdout or ()], daemon=True)
    reader.start()
    terminal, begun, said = sys.stdout.isatty(), time.monotonic(), 0.0
    packages = Path(sysconfig.get_path("purelib"))
    while reader.is_alive() or not lines.empty():
        with contextlib.suppress(queue.Empty):
            progress.hear(lines.get(timeout=LOOK_SECONDS))
        elapsed = time.monotonic() - begun
        if terminal or elapsed > said + SAY_SECONDS:
            said = elapsed
            text = f"  {progress.shown(packages)} ({elapsed:.0f} s)"
            print(f"\r\033[K{text}" if terminal else text, end="" if terminal else "\n", flush=True)
    if terminal:
        print("\r\033[K", end="", flush=True)
    return pip.wait()


def install(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run `pip install` with these arguments; its exit code."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--progress-bar", "off"]
    progress = Progress()
    with subprocess.Popen(
        [*command, *arguments], env=dict(environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace",
    ) as pip:  # fmt: skip
        code = follow(pip, progress)
    if code:
        print("\n".join(progress.said), file=sys.stderr)
    return code
