"""Origin of a result: kernel, cores, Python, commit; every result carries it."""

from __future__ import annotations

import platform
import subprocess
from typing import TypedDict

from lab import __version__, machines
from lab.gil import models_have_gil
from lab.settings import CHECKOUT, INSTALLED

CHANGED = "+"
"""Behind a commit: files differ from it."""


class Environment(TypedDict):
    """`cpus` are those this process may use; `gil` is whether models run with one."""

    kernel: str
    cpus: int
    python: str
    gil: bool
    commit: str


def describe() -> Environment:
    """This machine, this Python and this checkout."""
    return Environment(
        kernel=platform.release(),
        cpus=len(machines.cpus()),
        python=platform.python_version(),
        gil=models_have_gil(),
        commit=_commit(),
    )


def _commit() -> str:
    """The checkout's commit, with `+` where files differ from it; the version of an installed wheel, or "unknown"."""
    if INSTALLED:
        return f"v{__version__}"
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        return commit + (CHANGED if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(CHECKOUT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
