"""The admin process, as main sees it: a process that serves no client, and that main keeps running."""

from __future__ import annotations

import socket
from collections.abc import Callable

from services.workers.fork import fork_worker


class Helper:
    """A process that runs `run()`, and its successors after a death. Called by main's thread only."""

    def __init__(self, name: str, run: Callable[[], None], keep: list[socket.socket]) -> None:
        """Start it; it keeps the sockets of `keep`."""
        self.name = name
        self._run = run
        self._keep = keep
        self.start()

    def start(self) -> None:
        """Fork the process, at first and after its death."""
        self._child = fork_worker(self._run, self._keep)
        self._reaped = False

    def reap(self) -> str | None:
        """Return how it ended, once; None while it runs."""
        if self._reaped or not self._child.has_ended():
            return None
        self._reaped = True
        return self._child.how_it_ended()
