"""The command line that gunicorn's workers share, with its parser in C."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lab.peers.process import Cpus, Peer, Plan, running
from lab.peers.python_package import version_of_package
from lab.settings import HOST

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

HOW_TO_GET = ".venv/bin/pip install gunicorn gunicorn_h1c"
KEEP_ALIVE_SECONDS = "75"


def installed(*needed: str) -> str | None:
    """Its version; None when it, its parser or one of the `needed` is not installed."""
    return version_of_package("gunicorn", "gunicorn_h1c", *needed)


def started(
    name: str, port: int, workers: int, cpus: Cpus, *options: str, folder: str = "."
) -> AbstractContextManager[Peer]:
    """A running gunicorn with `options`, the last of which is the application, in `folder`. It logs no requests."""
    command = [sys.executable, "-m", "gunicorn", "--workers", str(workers), "--keep-alive", KEEP_ALIVE_SECONDS]
    command += ["--http-parser", "fast", "--no-control-socket", "--log-level", "warning", "--chdir", folder]
    return running(Plan(name, lambda _, free: [*command, "--bind", f"{HOST}:{free}", *options]), port, cpus)
