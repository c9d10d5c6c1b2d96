"""A stack of the tests' own: on free ports and in a folder of its own, beside a developer's."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import psutil

from lab import settings

UP_SECONDS = 300


def free_ports(count: int) -> list[int]:
    """Ports that are free, all different, and outside the range that the kernel gives to outgoing connections."""
    candidates = iter(random.sample(range(20000, 30000), 1000))
    return list(islice(filter(is_free, candidates), count))


def is_free(number: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", number)) != 0


@dataclass
class Stack:
    """The variables of one stack, and the commands on it."""

    folder: Path
    ports: dict[str, int] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=lambda: {"PLACE": "local"})
    """More of the environment. Without it a stack is local, whatever else the machine could have."""

    @property
    def environment(self) -> dict[str, str]:
        moved = {variable: str(number) for variable, number in self.ports.items()}
        # Without these a make above us would hand its own settings down to ours.
        outer = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}}
        return {**outer, **moved, "LAB_STATE_DIR": str(self.folder), **self.variables}

    def make(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", *arguments], cwd=settings.CHECKOUT, env={**self.environment, **variables},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=UP_SECONDS,
        )  # fmt: skip

    def lab(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line."""
        return subprocess.run(
            [Path(sys.executable).with_name("lab"), *arguments], cwd=settings.CHECKOUT, env=self.environment,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=UP_SECONDS,
        )  # fmt: skip

    def playbook(self, function: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Call a function of lab.stack.playbook, for what make has no target."""
        code = f"import sys; from lab.stack import playbook; sys.exit(playbook.{function}(*{arguments!r}))"
        return subprocess.run(
            [sys.executable, "-c", code], cwd=settings.CHECKOUT, env=self.environment,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=UP_SECONDS,
        )  # fmt: skip

    def processes(self) -> list[psutil.Process]:
        """Every process that belongs to this stack, found without the lab's own code for it."""
        return [process for process in psutil.process_iter() if self._owns(process)]

    def _owns(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get("LAB_STACK") == str(self.folder)
        except psutil.Error:
            return False

    def pids(self) -> dict[str, int]:
        """The pid of each part's first process; supervisord's own is under ""."""
        found: dict[str, int] = {}
        for process in sorted(self.processes(), key=lambda process: process.create_time()):
            with contextlib.suppress(psutil.Error):  # one that has just ended
                found.setdefault(process.environ().get("SUPERVISOR_PROCESS_NAME", ""), process.pid)
        return found

    def port(self, part: str) -> int:
        return self.ports[f"LAB_{part.upper()}_PORT"]
