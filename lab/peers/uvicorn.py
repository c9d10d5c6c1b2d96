"""Uvicorn on its fastest parts: uvloop and httptools."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lab.peers.process import Cpus, Peer, Plan, running
from lab.peers.python_package import version_of_package
from lab.settings import HOST

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

NAME = "uvicorn"
HOW_TO_GET = ".venv/bin/pip install uvicorn uvloop httptools"


def available() -> str | None:
    """Its version; None when it, uvloop or httptools is not installed."""
    return version_of_package("uvicorn", "uvloop", "httptools")


def start(
    port: int = 0,
    workers: int = 1,
    cpus: Cpus = None,
    app: str = "lab.peers.hello_asgi:app",
    folder: str = ".",
    *,
    options: Sequence[str] = (),
) -> AbstractContextManager[Peer]:
    """A running uvicorn, and an application of `folder`."""
    command = [sys.executable, "-m", "uvicorn", "--loop", "uvloop", "--http", "httptools", "--no-access-log"]
    command += ["--host", HOST, "--log-level", "warning", "--timeout-keep-alive", "75", "--app-dir", folder]
    command += [*(["--workers", str(workers)] if workers > 1 else []), *options, app, "--port"]
    return running(Plan(NAME, lambda _, free: [*command, str(free)]), port, cpus)
