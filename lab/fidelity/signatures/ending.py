"""An orderly end, and a change of workers under load: what do clients lose?"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from lab.peers.routes import LONG_BYTES

if TYPE_CHECKING:
    import socket

    from lab.fidelity.running import Running

FIRST_BYTES = 1000
IDLE = 12
END_SECONDS = 5.0
"""A server may look only once a second whether it has been asked to end."""
RELOADS = 3
BETWEEN_RELOADS = 60
"""Requests that are responded to between two reloads."""


def received_share(running: Running) -> float:
    """Measure the share of a long response that a client gets, when the server is asked to end in the midst of it."""
    connection = _begun(running)
    running.end()
    return min(1.0, (FIRST_BYTES + _rest(connection)) / LONG_BYTES)


def received_share_over_reload(running: Running) -> float:
    """Measure the same when the server reloads in the midst of it."""
    connection = _begun(running)
    wait = running.reload()
    share = min(1.0, (FIRST_BYTES + _rest(connection)) / LONG_BYTES)
    wait()
    return share


def _begun(running: Running) -> socket.socket:
    """Return a connection on which a long response has begun."""
    connection = running.connect()
    connection.sendall(running.system.speech.long_request)
    left = FIRST_BYTES
    while left:
        left -= len(connection.recv(left))
    running.settle()  # its buffers are full: it waits for us
    return connection


def _rest(connection: socket.socket) -> int:
    received = 0
    with contextlib.suppress(OSError):
        while received < LONG_BYTES and (piece := connection.recv(1 << 20)):
            received += len(piece)
    return received


def idle_closed_in_order(running: Running) -> float:
    """Measure the share of idle connections that end by FIN, not by RST, when the server is asked to end."""
    held = running.hold(IDLE)
    running.end()
    silent = running.silent(held, END_SECONDS)
    return sum(connection not in silent and _ends_by_fin(connection) for connection in held) / IDLE


def _ends_by_fin(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except OSError:
        return False


def failed_over_reloads(running: Running) -> float:
    """Count the requests, each on a new connection, that fail while the server reloads several times."""
    served, failed = threading.Semaphore(0), []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            try:
                with running.connect() as connection:
                    running.ask(connection)
            except (OSError, EOFError) as error:
                failed.append(error)
            served.release()

    thread = threading.Thread(target=load, name="load")
    thread.start()
    try:
        for _ in range(RELOADS):
            _take(served, BETWEEN_RELOADS)
            running.reload()()
        _take(served, BETWEEN_RELOADS)
    finally:
        stop.set()
        thread.join()
    return len(failed)


def _take(served: threading.Semaphore, number: int) -> None:
    for _ in range(number):
        served.acquire(timeout=5)
