"""Granian: an ASGI server whose network side is written in Rust."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lab.peers.process import Cpus, Peer, Plan, running
from lab.peers.python_package import version_of_package
from lab.settings import HOST

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

NAME = "granian"
HOW_TO_GET = ".venv/bin/pip install granian"


def available() -> str | None:
    """Its version; None when it is not installed."""
    return version_of_package("granian")


def start(
    port: int = 0,
    workers: int = 1,
    cpus: Cpus = None,
    *,
    app: str = "lab.peers.hello_asgi:app",
    options: Sequence[str] = (),
) -> AbstractContextManager[Peer]:
    """A running granian."""
    command = [sys.executable, "-m", "granian", "--interface", "asginl", "--host", HOST, "--workers", str(workers)]
    command += ["--no-ws", "--log-level", "warning", *options, app, "--port"]
    return running(Plan(NAME, lambda _, free: [*command, str(free)]), port, cpus)
