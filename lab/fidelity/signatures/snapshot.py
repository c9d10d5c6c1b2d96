"""A store that saves itself by a fork, while it is written to: what is in the snapshot, and what does it cost?

The commands are Redis's; the model (lab/fidelity/forking_store.py) has those few of them.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from lab.fidelity.running import FidelityError

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

    from lab.fidelity.running import Running

PAGES, WARM_UP, WRITTEN = 4000, 200, 2000
"""Values of a page each; those written first, which touch what a server needs to write at all; and those measured."""
VALUE_BYTES = 4000
PAGE_BYTES = 4096
SAVED_SECONDS = 30.0
POLL_SECONDS = 0.05


def processes(running: Running) -> float:
    """Count the processes that a save adds while it goes on."""
    before = len(running.pids())
    _begin(running)
    return len(running.pids()) - before


def later_values(running: Running) -> float:
    """Count the values of the snapshot that were written after it had begun."""
    connection = _begin(running)
    _write(connection, range(PAGES // 2, PAGES))  # which a save in order of the keys comes to last
    _wait_until_saved(connection)
    _say(connection, b"DEBUG RELOAD NOSAVE")
    connection.sendall(b"".join(b"GETRANGE page:%d 0 2\r\n" % page for page in range(PAGES // 2, PAGES)))
    return _read(connection, len(b"$3\r\nnew\r\n") * (PAGES // 2)).count(b"new")


def copied_pages(running: Running) -> float:
    """Measure the pages that the kernel copies for the server, for each page written while it saves."""
    connection = _begin(running)
    _write(connection, range(WARM_UP))
    before = _private_dirty(running.peer.pid)
    _write(connection, range(WARM_UP, WARM_UP + WRITTEN))
    return (_private_dirty(running.peer.pid) - before) / PAGE_BYTES / WRITTEN


def _begin(running: Running) -> socket.socket:
    """Return a connection to a server that has values, and saves them."""
    connection = running.connect()
    _say(connection, b"CONFIG SET rdb-key-save-delay 500")
    _say(connection, b"DEBUG POPULATE %d page %d" % (PAGES, VALUE_BYTES))
    if not _say(connection, b"BGSAVE").startswith(b"+"):
        raise FidelityError(f"{running.system.label} does not save")
    return connection


def _write(connection: socket.socket, pages: Iterable[int]) -> None:
    """Write one value a page, and wait until all are written."""
    commands = [b"SETRANGE page:%d 0 new\r\n" % page for page in pages]
    for first in range(0, len(commands), 100):
        some = commands[first : first + 100]
        connection.sendall(b"".join(some))
        _read(connection, len(b":4000\r\n") * len(some))


def _wait_until_saved(connection: socket.socket) -> None:
    deadline = time.monotonic() + SAVED_SECONDS
    while b"rdb_bgsave_in_progress:0" not in _say(connection, b"INFO persistence"):
        if time.monotonic() > deadline:
            raise FidelityError(f"the save has not ended after {SAVED_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)


def _say(connection: socket.socket, command: bytes) -> bytes:
    connection.sendall(command + b"\r\n")
    data = b""
    while not data.endswith(b"\r\n"):
        data += connection.recv(65536)
    return data


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise FidelityError(f"the connection ended after {len(data)} of {size} bytes")
        data += piece
    return data


def _private_dirty(pid: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return next(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Private_Dirty:"))
