"""Gunicorn's own `asgi` worker, on uvloop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.peers import gunicorn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from lab.peers.process import Cpus, Peer

NAME = "gunicorn-asgi"
HOW_TO_GET = f"{gunicorn.HOW_TO_GET} uvloop"


def available() -> str | None:
    """Its version; None when it, its parser in C or uvloop is not installed."""
    return gunicorn.installed("uvloop")


def start(
    port: int = 0,
    workers: int = 1,
    cpus: Cpus = None,
    *,
    app: str = "lab.peers.hello_asgi:app",
    options: Sequence[str] = (),
) -> AbstractContextManager[Peer]:
    """A running gunicorn with an event loop."""
    words = ["--worker-class", "asgi", "--asgi-loop", "uvloop", "--asgi-lifespan", "off", *options, app]
    return gunicorn.started(NAME, port, workers, cpus, *words)
