"""Real memcached: one thread that accepts, and as many workers as asked for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lab.peers.process import Cpus, Peer, Plan, running, version_of
from lab.settings import HOST

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

NAME = "real-memcached"
HOW_TO_GET = "apt-get install memcached"


def available() -> str | None:
    """Its version; None when it is not installed."""
    version = version_of("memcached", "-V")
    return version.rpartition(" ")[2] if version else None


def start(
    port: int = 0, workers: int = 1, cpus: Cpus = None, *, options: Sequence[str] = ()
) -> AbstractContextManager[Peer]:
    """A running memcached, speaking its text protocol over TCP only."""
    return running(Plan(NAME, lambda _, free: [*_command(_, free, workers), *options]), port, cpus)


def _command(_: Path, port: int, workers: int) -> list[str]:
    # As root it refuses to start without being told so.
    user = ["-u", "root"] if os.geteuid() == 0 else []
    return ["memcached", "-l", HOST, "-p", str(port), "-U", "0", "-t", str(workers), "-c", "12288", *user]
