"""Main and workers have this in common: they listen, accept and serve. Which of them does it is the model's choice."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from services.metrics import slots
from services.net.acceptor import (
    Acceptor,
    BlockingAcceptor,
    ExclusiveAcceptor,
    MutexAcceptor,
    RotatingAcceptor,
    SoleAcceptor,
)
from services.net.connection import Connection
from services.net.job import Execute
from services.net.listener import Address, inode, open_listener
from services.net.server_loop import ServerLoop

ACCEPT_LOCK = "accept.lock"
"""File in the state folder that `--wakeup mutex` locks."""


@dataclass(slots=True)
class Settings:
    """Settings of a model. `options` are the command line's, by name with underscores."""

    model: str
    address: Address
    worker_kind: str
    workers: int
    state_dir: Path
    options: dict[str, Any]


class CannotServeError(Exception):
    """A worker cannot serve with these options, and no successor could. The text says why; empty: it has been said."""


LoopFactory = Callable[[str, slots.Block], ServerLoop]
"""Makes the loop of main ("main") or of a worker ("0", "1", …): the composition root's part."""


class Server:
    """Main or a worker: it has a loop, and everything here happens on that loop's thread."""

    def __init__(self, name: str, settings: Settings, loop: ServerLoop) -> None:
        self.name = name
        self.settings = settings
        self.loop = loop
        self.block = loop.block
        self.acceptor: Acceptor | None = None

    def listen(self, *, reuse_port: bool = False) -> socket.socket:
        """Open a listening socket at the server's address."""
        listener = open_listener(self.settings.address, reuse_port=reuse_port)
        self.block[slots.LISTENER_INODE] = inode(listener)
        return listener

    def accept(self, listener: socket.socket, wakeup: str = "alone") -> Iterator[Connection]:
        """Yield connections as they are accepted, running the loop meanwhile; ends after a drain."""
        self._wait_on(listener, wakeup)
        return self.loop.accepting()

    def serve(self, connection: Connection, execute: Execute | None = None) -> None:
        """Read, parse, execute (or let `execute` do it) and write, for as long as the connection lives."""
        self.loop.serve(connection, execute)

    def _wait_on(self, listener: socket.socket, wakeup: str) -> None:
        acceptors: dict[str, Callable[[ServerLoop, socket.socket], Acceptor]] = {
            "alone": SoleAcceptor,
            "herd": Acceptor,
            "exclusive": ExclusiveAcceptor,
            "exclusive-rotating": RotatingAcceptor,
            "mutex": partial(MutexAcceptor, lock=self.settings.state_dir / ACCEPT_LOCK),
            "blocking": BlockingAcceptor,
        }
        self.acceptor = acceptors[wakeup](self.loop, listener)
