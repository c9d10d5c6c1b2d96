"""Gunicorn's `gthread` worker: one thread waits for requests, and four, as is usual, run a WSGI application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.peers import gunicorn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from lab.peers.process import Cpus, Peer

NAME = "gunicorn-gthread"
HOW_TO_GET = gunicorn.HOW_TO_GET
THREADS = "4"


def available() -> str | None:
    """Its version; None when it or its parser in C is not installed."""
    return gunicorn.installed()


def start(
    port: int = 0,
    workers: int = 1,
    cpus: Cpus = None,
    app: str = "lab.peers.hello_wsgi:app",
    folder: str = ".",
    *,
    options: Sequence[str] = (),
) -> AbstractContextManager[Peer]:
    """A running gunicorn with threads, and an application of `folder`."""
    words = ["--worker-class", "gthread", "--threads", THREADS, *options, app]
    return gunicorn.started(NAME, port, workers, cpus, *words, folder=folder)
