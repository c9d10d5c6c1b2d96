"""aiohttp's server, with its own parser, on asyncio's own loop."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lab.peers.process import Cpus, Peer, Plan, running
from lab.peers.python_package import version_of_package
from lab.settings import HOST

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

NAME = "aiohttp"
HOW_TO_GET = ".venv/bin/pip install aiohttp"


def available() -> str | None:
    """Its version; None when it is not installed."""
    return version_of_package("aiohttp")


def start(port: int = 0, workers: int = 1, cpus: Cpus = None) -> AbstractContextManager[Peer]:
    """A running aiohttp. It has no workers of its own: several are as many processes on one reused port."""
    command = [sys.executable, "-m", "lab.peers.hello_aiohttp", HOST]
    return running(Plan(NAME, lambda _, free: [*command, str(free), str(workers)]), port, cpus)
