"""Where a result comes from; every result carries it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from typing import TypedDict

from lab.settings import CHECKOUT

CHANGED = "+"
"""Behind a commit: files differ from it."""


class Environment(TypedDict):
    """`cpus` are those this process may use; `gil` is whether this Python runs with one."""

    kernel: str
    cpus: int
    python: str
    gil: bool
    commit: str


def describe() -> Environment:
    """This machine, this Python and this checkout."""
    gil_enabled = getattr(sys, "_is_gil_enabled", lambda: True)
    return Environment(
        kernel=platform.release(),
        cpus=len(os.sched_getaffinity(0)),
        python=platform.python_version(),
        gil=gil_enabled(),
        commit=_commit(),
    )


def _commit() -> str:
    """The checkout's commit, with `+` where files differ from it; "unknown" outside a checkout."""
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        return commit + (CHANGED if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(CHECKOUT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
