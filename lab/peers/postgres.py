"""PostgreSQL: the postmaster accepts, and forks a process for each connection. It begins empty, in our own folder."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from lab.peers.process import Cpus, Peer, PeerError, Plan, running, version_of
from lab.peers.unprivileged import as_somebody
from lab.settings import HOST

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

NAME = "postgres"
HOW_TO_GET = "apt-get install postgresql"
USER = "lab"
INITIALISE_SECONDS = 60.0
SETTINGS = ("fsync=off", "shared_buffers=16MB", "unix_socket_directories=", "autovacuum=off", "max_wal_senders=0")


def available() -> str | None:
    """Its version; None when it is not installed."""
    version = version_of(str(_program("postgres")), "--version")
    return version.split()[2] if version else None


def start(
    port: int = 0, workers: int = 1, cpus: Cpus = None, *, options: Sequence[str] = ()
) -> AbstractContextManager[Peer]:
    """A running PostgreSQL, to which the user `lab` connects without a password."""
    del workers
    return running(Plan(NAME, lambda folder, free: [*_command(folder, free), *options]), port, cpus)


def _command(folder: Path, port: int) -> list[str]:
    data = str(folder / "data")
    initialise = [
        str(_program("initdb")),
        "-D",
        data,
        "-U",
        USER,
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C",
        "--no-sync",
    ]
    done = subprocess.run(
        as_somebody(*initialise), check=False, capture_output=True, text=True, timeout=INITIALISE_SECONDS, cwd=folder
    )
    if done.returncode:
        raise PeerError(f"initdb: {done.stderr.strip() or done.stdout.strip()}")
    settings = [word for setting in SETTINGS for word in ("-c", setting)]
    return as_somebody(str(_program("postgres")), "-D", data, "-h", HOST, "-p", str(port), *settings)


def _program(name: str) -> Path:
    """Return the newest one: Debian keeps each version in a folder of its own, where no PATH looks."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return found[-1] if found else Path(name)
