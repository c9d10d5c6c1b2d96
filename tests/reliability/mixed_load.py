"""Mixed load: every way in which clients come, ask, stall and go, each again and again.

An event is one round of one kind. Kinds that leave a timer of the server to run out (`slow head`, `slow body`, `idle`)
do not wait for it: the next rounds come meanwhile, and the connection is closed some rounds later.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Callable

from support.servers import read_response

KEYS = 200
MOST_VALUE_BYTES = 4096
TIMEOUT_SECONDS = 10.0
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER that makes close() send RST: a client that is gone."""
PIPELINED = 20


class Client(threading.Thread):
    """One client, which does a round of each kind in random order until it is told to stop."""

    def __init__(self, port: int, number: int, rounds_per_second: float, stalled_seconds: float) -> None:
        """A stalled connection is kept for `stalled_seconds`, which is more than the server's timeouts."""
        super().__init__()
        self._address = ("127.0.0.1", port)
        self._chance = random.Random(number)
        self._pause = 1 / rounds_per_second
        self._stalled_seconds = stalled_seconds
        self._stalled: deque[tuple[float, socket.socket]] = deque()
        self._kept: socket.socket | None = None
        self._number, self._round = number, 0
        self._over = threading.Event()
        self.events: Counter[str] = Counter()
        self.failures: list[str] = []

    def stop(self) -> None:
        """End after the round that is under way."""
        self._over.set()
        self.join()

    def run(self) -> None:
        """Do rounds."""
        kinds = list(KINDS)
        due = time.monotonic()
        while not self._over.wait(max(0.0, due - time.monotonic())):
            self._round += 1
            if self._round % len(kinds) == 1:
                self._chance.shuffle(kinds)
            kind = kinds[self._round % len(kinds)]
            try:
                KINDS[kind](self)
                self.events[kind] += 1
            except (OSError, AssertionError) as error:
                self.failures.append(f"{kind}: {error!r}"[:200])
                self._kept = None
            self._close_stalled(time.monotonic() - self._stalled_seconds)
            due = max(due + self._pause, time.monotonic() - 1)
        self._close_stalled(time.monotonic())

    def _close_stalled(self, before: float) -> None:
        while self._stalled and self._stalled[0][0] <= before:
            self._stalled.popleft()[1].close()

    def connect(self) -> socket.socket:
        return socket.create_connection(self._address, TIMEOUT_SECONDS)

    def exchange(self, request: bytes, expected: bytes) -> None:
        """Send a request on a connection of its own."""
        with self.connect() as client:
            client.sendall(request)
            said = read_response(client)
        assert said.startswith(b"HTTP/1.1 " + expected), said[:100]

    def keep_alive(self) -> None:
        """Send requests on a connection that stays, unless the server has closed it since it was idle for too long.

        It may do so while they are on their way to it; then they are sent once more, on a new one (RFC 9112, § 9.3.1).
        """
        if self._kept is not None and not is_closed(self._kept):
            with contextlib.suppress(ConnectionError):
                pipeline(self._kept)
                return
        self._kept = self.connect()
        pipeline(self._kept)

    def connection_a_request(self) -> None:
        self.exchange(b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n", b"200")

    def store(self) -> None:
        """Put, get and delete a value of any size under one of a bounded number of keys."""
        path = b"/kv/%d" % self._chance.randrange(KEYS)
        value = bytes(self._chance.randrange(1, MOST_VALUE_BYTES))
        head = b" %b HTTP/1.1\r\nHost: lab\r\n" % path
        self.exchange(b"PUT" + head + b"Content-Length: %d\r\n\r\n" % len(value) + value, b"20")
        self.exchange(b"GET" + head + b"\r\n", b"")
        self.exchange(b"DELETE" + head + b"\r\n", b"")

    def memcache(self) -> None:
        with self.connect() as client:
            key = b"m%d" % self._chance.randrange(KEYS)
            client.sendall(b"set %b 0 60 5\r\nhello\r\nget %b\r\ndelete %b\r\nquit\r\n" % (key, key, key))
            said = b""
            while part := client.recv(65536):
                said += part
        assert said.startswith(b"STORED\r\n"), said[:100]

    def idempotent(self) -> None:
        """Post under a new key, and repeat it."""
        key = b"%d-%d" % (self._number, self._round)
        request = (
            b'POST /counters/soak HTTP/1.1\r\nHost: lab\r\nIdempotency-Key: "%b"\r\nContent-Length: 0\r\n\r\n' % key
        )
        self.exchange(request, b"200")
        self.exchange(request, b"200")
        self.exchange(
            b"PUT /counters/soak/increments/%b HTTP/1.1\r\nHost: lab\r\nContent-Length: 0\r\n\r\n" % key, b"200"
        )

    def malformed(self) -> None:
        self.exchange(b"GET / HTTP/1.1\r\nHost lab\r\n\r\n", b"400")

    def not_found(self) -> None:
        self.exchange(b"GET /%d HTTP/1.1\r\nHost: lab\r\n\r\n" % self._round, b"404")

    def stall(self, sent: bytes) -> None:
        """Send that much, and no more until the server's patience is over."""
        client = self.connect()
        client.sendall(sent)
        self._stalled.append((time.monotonic(), client))

    def slow_head(self) -> None:
        self.stall(b"GET / HTTP/1.1\r\nX-Slow: ")

    def slow_body(self) -> None:
        self.stall(b"PUT /kv/slow HTTP/1.1\r\nHost: lab\r\nContent-Length: 1000\r\n\r\nabc")

    def idle(self) -> None:
        self.stall(b"")

    def reset(self) -> None:
        """Hang up in the middle of a response."""
        client = self.connect()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        with contextlib.closing(client):
            client.sendall(b"GET /stream?bytes=1000000 HTTP/1.1\r\nHost: lab\r\n\r\n")
            client.recv(1000)


def pipeline(client: socket.socket) -> None:
    """Send several requests at once, and read their responses. Raises ConnectionError where the server has closed."""
    client.sendall(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n" * PIPELINED)
    for number in range(PIPELINED):
        said = read_response(client)
        if not said and not number:
            raise ConnectionResetError("closed before the first response")
        assert said.startswith(b"HTTP/1.1 200"), said[:100]


def is_closed(client: socket.socket) -> bool:
    """Return whether the server has closed the connection, on which nothing else can have come."""
    return bool(select.select([client], [], [], 0)[0])


KINDS: dict[str, Callable[[Client], None]] = {
    "keep-alive": Client.keep_alive,
    "connection a request": Client.connection_a_request,
    "put, get, delete": Client.store,
    "memcached": Client.memcache,
    "idempotent": Client.idempotent,
    "malformed": Client.malformed,
    "not found": Client.not_found,
    "slow head": Client.slow_head,
    "slow body": Client.slow_body,
    "idle": Client.idle,
    "reset": Client.reset,
}
