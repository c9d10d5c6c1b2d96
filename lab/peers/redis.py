"""Redis: one loop that serves all, and a forked child that saves. It keeps nothing, but for what it is told to save."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.peers.process import Cpus, Peer, Plan, running, version_of
from lab.settings import HOST

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

NAME = "redis"
HOW_TO_GET = "apt-get install redis-server"


def available() -> str | None:
    """Its version; None when it is not installed."""
    version = version_of("redis-server", "--version")
    return next((word[2:] for word in version.split() if word.startswith("v=")), version) if version else None


def start(
    port: int = 0, workers: int = 1, cpus: Cpus = None, *, options: Sequence[str] = ()
) -> AbstractContextManager[Peer]:
    """A running Redis. It has no workers: one loop executes every command."""
    del workers
    return running(Plan(NAME, lambda folder, free: [*_command(folder, free), *options]), port, cpus)


def _command(folder: Path, port: int) -> list[str]:
    command = ["redis-server", "--port", str(port), "--bind", HOST, "--dir", str(folder), "--daemonize", "no"]
    # Only what is asked for is saved; DEBUG SLEEP is a command that blocks, as a long script would.
    return [*command, "--save", "", "--appendonly", "no", "--enable-debug-command", "yes"]
