"""Machines that are not a plain Linux: macOS, Windows' subsystem for Linux (WSL), a codespace of GitHub.

All that is macOS's own or Linux's alone is asked for here or where it is used, never while a module is imported: the
command line brings the containers up from macOS, too (docs/machines.md).
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

ROOT = Path("/")
"""Where files of the kernel are looked for; a test pretends another machine here."""
LINUX = sys.platform == "linux"
UTF8_LOCALE = "C.UTF-8" if LINUX else "en_US.UTF-8"
"""A locale of UTF-8 that every machine of this kind has; macOS has no C.UTF-8."""
FIRST_WSL_2 = (4, 19)


def cpus() -> set[int]:
    """Return the processors that this process may use; where the system does not say which, all."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def wsl() -> int:
    """Return the version of WSL that this machine is, 1 or 2; 0 elsewhere."""
    try:
        release = (ROOT / "proc/sys/kernel/osrelease").read_text(encoding="ascii")
    except OSError:
        return 0
    if "microsoft" not in release.lower():
        return 0
    numbers = tuple(int(number) for number in re.findall(r"\d+", release)[:2])
    return 2 if numbers >= FIRST_WSL_2 else 1


def in_codespace() -> bool:
    """Return whether this is a codespace of GitHub."""
    return os.environ.get("CODESPACES") == "true"
