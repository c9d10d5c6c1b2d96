"""One client connection on a gevent socket: request bytes out, one whole response in.

Locust's own FastHttpUser hides when it connects and builds every request anew. Here connecting is a
step of its own, so that it can be timed and counted apart: a full accept queue delays the connect and
leaves the response times untouched. Request bytes are made once, which leaves more of the core for load.
"""

from __future__ import annotations

import contextlib
import math
import socket
from functools import lru_cache
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

import gevent
import gevent.socket
import httptools

if TYPE_CHECKING:
    from collections.abc import Mapping

    from loadtests.options import Target

READ_BYTES = 65536
WATCHDOG_SECONDS = 0.25
MAX_REPLY_BYTES = 8 * 1024 * 1024


class ConnectionClosedError(Exception):
    """The server closed before the response was complete."""


class ReplyTooLargeError(Exception):
    """A memcached reply did not end within `MAX_REPLY_BYTES`."""


class Reply(NamedTuple):
    """A response. `status` is 0 where the protocol has none."""

    status: int
    body: bytes
    keep_alive: bool


def http_request(
    target: Target, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> bytes:
    """The bytes of one HTTP request."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {target.host}:{target.port}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body or method in {"POST", "PUT"}:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


@lru_cache
def resolve(host: str, port: int) -> tuple[int, tuple[str, int]]:
    """(address family, socket address) of a host. Raises OSError.

    Once for all connections: gevent asks a pool of threads for every name, which would be measured as
    part of the connect.
    """
    family, _, _, _, address = gevent.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return family, address


class Connection:
    """A connected socket. Raises OSError from `__init__` when the connection cannot be made."""

    def __init__(self, target: Target, timeout_seconds: float) -> None:
        family, address = resolve(target.host, target.port)
        self.deadline = math.inf
        self._timeout_seconds = timeout_seconds
        self._timed_out = False
        self._socket = gevent.socket.socket(family, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_seconds)
        try:
            self._socket.connect(address)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            # Also when Locust ends the user while it waits here.
            self._socket.close()
            raise
        self._socket.settimeout(None)
        WATCHDOG.watch(self)

    def send(self, data: bytes) -> None:
        """Send all of `data`, and expect an answer within the timeout."""
        self.deadline = monotonic() + self._timeout_seconds
        sent = self._socket.send(data)
        if sent < len(data):
            self._socket.sendall(data[sent:])

    def receive(self) -> bytes:
        """Return what has arrived, at least one byte. Raises ConnectionClosedError at the end, or TimeoutError."""
        try:
            data: bytes = self._socket.recv(READ_BYTES)
        except OSError:
            # gevent wakes a reader whose socket was shut down with an error of its own.
            if self._timed_out:
                raise TimeoutError("no whole answer in time") from None
            raise
        if not data:
            raise ConnectionClosedError("the server closed the connection")
        return data

    def time_out(self) -> None:
        """Called by the watchdog: whoever waits in `receive` is woken there."""
        self._timed_out = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close at once; what has not been read is thrown away."""
        WATCHDOG.forget(self)
        self._socket.close()


class Watchdog:
    """One greenlet that ends the exchanges of all connections that take too long.

    gevent's own timeout on each `recv` starts and stops a timer a request, and costs a tenth of the load.
    """

    def __init__(self) -> None:
        self._connections: set[Connection] = set()
        self._running = False

    def watch(self, connection: Connection) -> None:
        """Look at `connection` from now on."""
        self._connections.add(connection)
        if not self._running:
            self._running = True
            gevent.spawn(self._run)

    def forget(self, connection: Connection) -> None:
        """It was closed."""
        self._connections.discard(connection)

    def _run(self) -> None:
        while self._connections:
            gevent.sleep(WATCHDOG_SECONDS)
            now = monotonic()
            for connection in [late for late in self._connections if late.deadline < now]:
                connection.deadline = math.inf
                connection.time_out()
        self._running = False


WATCHDOG = Watchdog()


class HttpConnection(Connection):
    """Speaks HTTP/1.1, one request at a time."""

    def __init__(self, target: Target, timeout_seconds: float) -> None:
        super().__init__(target, timeout_seconds)
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._complete = False
        self._keep_alive = False

    def exchange(self, request: bytes) -> Reply:
        """Send `request` and read its response.

        Raises OSError, ConnectionClosedError or httptools.HttpParserError.
        """
        self._complete = False
        self._body.clear()
        self.send(request)
        parser = self._parser
        while not self._complete:
            parser.feed_data(self.receive())
        self.deadline = math.inf
        return Reply(parser.get_status_code(), b"".join(self._body), self._keep_alive)

    def on_body(self, piece: bytes) -> None:
        """httptools calls this with each piece of the body."""
        self._body.append(piece)

    def on_message_complete(self) -> None:
        """httptools calls this at the end of the response; 100 Continue is not the end."""
        self._complete = self._parser.get_status_code() >= 200
        # Only known here: a moment later the parser has begun the next response.
        self._keep_alive = self._parser.should_keep_alive()


class MemcacheConnection(Connection):
    """Speaks memcached's text protocol: commands with one reply, which ends in one of `ENDS`."""

    ENDS = (b"END\r\n", b"STORED\r\n", b"DELETED\r\n", b"NOT_FOUND\r\n", b"ERROR\r\n")

    def exchange(self, request: bytes) -> Reply:
        """Send `request` and read its reply. Raises OSError, ConnectionClosedError or ReplyTooLargeError."""
        self.send(request)
        received = self.receive()
        while not self._complete(received):
            if len(received) > MAX_REPLY_BYTES:
                raise ReplyTooLargeError(f"no end within {MAX_REPLY_BYTES} bytes")
            received += self.receive()
        self.deadline = math.inf
        return Reply(0, received, keep_alive=True)

    def _complete(self, received: bytes) -> bool:
        if received.startswith((b"SERVER_ERROR ", b"CLIENT_ERROR ")):
            return received.endswith(b"\r\n")
        return received.endswith(self.ENDS)
