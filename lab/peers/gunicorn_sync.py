"""Gunicorn's `sync` worker: a process that serves one connection at a time, for one request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.peers import gunicorn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from lab.peers.process import Cpus, Peer

NAME = "gunicorn-sync"
HOW_TO_GET = gunicorn.HOW_TO_GET


def available() -> str | None:
    """Its version; None when it or its parser in C is not installed."""
    return gunicorn.installed()


def start(
    port: int = 0,
    workers: int = 1,
    cpus: Cpus = None,
    *,
    app: str = "lab.peers.hello_wsgi:app",
    options: Sequence[str] = (),
) -> AbstractContextManager[Peer]:
    """A running gunicorn with workers that block."""
    return gunicorn.started(NAME, port, workers, cpus, "--worker-class", "sync", *options, app)
