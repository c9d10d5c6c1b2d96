"""The store of the experiment copy-on-write behind a socket, beside Redis: it saves by a fork, as BGSAVE does.

    python -m lab.fidelity.forking_store HOST PORT private|shared SNAPSHOT

speaks the few commands of Redis that the signature uses, to one client at a time. `shared` is wrong on purpose: parent
and child share one mapping, so that the snapshot sees what is written after the fork.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lab.experiments.copy_on_write import Store

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE_SAVE_SECONDS = 0.0005
"""Of the child, for each page: as Redis has it by rdb-key-save-delay, so that much is written meanwhile."""
FLAGS = {"private": mmap.MAP_PRIVATE, "shared": mmap.MAP_SHARED}
LENGTH = b":4000\r\n"
"""Redis says how long the value is."""
OK = b"+OK\r\n"


class Server:
    """The store, and the child that saves it, if one does."""

    def __init__(self, flags: int, snapshot: Path) -> None:
        self._flags, self._snapshot = flags, snapshot
        self._saver = 0
        self._commands: dict[bytes, Callable[..., bytes]] = {
            b"PING": lambda: b"+PONG\r\n",
            b"CONFIG": lambda *_: OK,
            b"DEBUG": self._debug,
            b"BGSAVE": self._save,
            b"INFO": lambda _: b"$0\r\nrdb_bgsave_in_progress:%d\r\n" % self._is_saving(),
            b"SETRANGE": self._set,
            b"GETRANGE": self._get,
        }

    def respond(self, line: bytes) -> bytes:
        """Return the response to a command."""
        name, *words = line.split()
        return self._commands[name](*words)

    def _debug(self, what: bytes, *words: bytes) -> bytes:
        if what == b"POPULATE":
            self._store = Store(int(words[0]) * mmap.PAGESIZE, self._flags)
        else:  # RELOAD: go on with what was saved
            self._store.memory[:] = self._snapshot.read_bytes()
        return OK

    def _save(self) -> bytes:
        self._saver = os.fork()
        if self._saver == 0:
            with self._snapshot.open("wb", buffering=0) as file:
                for page in range(self._store.pages):
                    file.write(self._store.memory[page * mmap.PAGESIZE : (page + 1) * mmap.PAGESIZE])
                    time.sleep(PAGE_SAVE_SECONDS)
            os._exit(0)
        return b"+Background saving started\r\n"

    def _is_saving(self) -> bool:
        if self._saver and os.waitpid(self._saver, os.WNOHANG)[0]:
            self._saver = 0
        return bool(self._saver)

    def _set(self, key: bytes, _: bytes, value: bytes) -> bytes:
        self._store.put(int(key.partition(b":")[2]), value)
        return LENGTH

    def _get(self, key: bytes, first: bytes, last: bytes) -> bytes:
        begin = int(key.partition(b":")[2]) * mmap.PAGESIZE
        return b"$3\r\n%b\r\n" % self._store.memory[begin + int(first) : begin + int(last) + 1]


def main(host: str, port: str, sharing: str, snapshot: str) -> None:
    """Serve until somebody ends us."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    server = Server(FLAGS[sharing], Path(snapshot))
    with socket.create_server((host, int(port))) as listener:
        while True:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(ConnectionError):  # a client that only looked whether we are here
                serve(connection, server)


def serve(connection: socket.socket, server: Server) -> None:
    """Respond to every command of a client. Raises ConnectionError."""
    with connection.makefile("rb") as lines:
        for line in lines:
            connection.sendall(server.respond(line))


if __name__ == "__main__":
    main(*sys.argv[1:])
