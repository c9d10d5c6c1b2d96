"""Many connections that have been used once and now wait: what keep-alive leaves behind on a server."""

from __future__ import annotations

import resource
import socket
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

SPARE_DESCRIPTORS = 256
CONNECTIONS_PER_ADDRESS = 20_000
"""Fewer than the default range of ephemeral ports, 28,232: beyond it another loopback address is used."""
TIMEOUT_SECONDS = 10.0


class IdleError(Exception):
    """The connections could not be opened; the text says how many could."""


class IdleConnections:
    """A context manager that holds `count` connections, each of which has had one response."""

    def __init__(self, host: str, port: int, count: int) -> None:
        self._address = (host, port)
        self._count = count
        self._sockets: list[socket.socket] = []
        self._request = f"GET / HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()

    def __enter__(self) -> Self:
        """Open them. Raises IdleError when the machine or the server does not allow that many."""
        allow_descriptors(self._count + SPARE_DESCRIPTORS)
        try:
            for number in range(self._count):
                self._open(number)
        except OSError as error:
            self._close()
            raise IdleError(f"only {number} of {self._count} idle connections could be opened: {error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close them all."""
        self._close()

    def alive(self) -> int:
        """Return how many the server has not closed."""
        return sum(map(_is_open, self._sockets))

    def _open(self, number: int) -> None:
        connection = socket.socket()
        self._sockets.append(connection)
        connection.settimeout(TIMEOUT_SECONDS)
        if number >= CONNECTIONS_PER_ADDRESS:
            connection.bind((f"127.0.0.{2 + number // CONNECTIONS_PER_ADDRESS}", 0))
        connection.connect(self._address)
        connection.sendall(self._request)
        if not connection.recv(4096).startswith(b"HTTP/1.1 200"):
            raise ConnectionError("the server did not answer 200")

    def _close(self) -> None:
        for connection in self._sockets:
            connection.close()
        self._sockets.clear()


def allow_descriptors(needed: int) -> None:
    """Raise this process's soft limit. Raises IdleError when the hard limit is lower."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise IdleError(f"needs {needed} descriptors, the limit is {hard}: raise it with `ulimit -n {needed}` as root")
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _is_open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return True
    except OSError:
        return False
