"""Clients that behave, meanwhile: each request on a connection of its own, at a steady pace, and how long it took."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass
from typing import Self

REQUEST = b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n"
TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class Served:
    """Outcome of their requests. Times are from when a request was due, so that waiting for the last one counts."""

    requests: int
    successes: int
    p50_ms: float
    p99_ms: float

    @property
    def share(self) -> float:
        """Return the share of successes."""
        return self.successes / self.requests if self.requests else 0.0


class Others:
    """A context manager: `clients` threads, which together make `rate` requests a second from its start to its end."""

    def __init__(self, port: int, rate: float, clients: int = 8) -> None:
        self._address = ("127.0.0.1", port)
        self._pause = clients / rate
        self._seconds: list[float | None] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number / rate,)) for number in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, first: float) -> None:
        due = time.monotonic() + first
        while not self._over.wait(max(0.0, due - time.monotonic())):
            good = ask(self._address)
            self._seconds.append(time.monotonic() - due if good else None)
            due = max(due + self._pause, time.monotonic() - TIMEOUT_SECONDS)

    def served(self) -> Served:
        """Return the outcome, after the end."""
        times = sorted(seconds for seconds in self._seconds if seconds is not None)
        at = [times[min(len(times) - 1, int(len(times) * share))] if times else 0.0 for share in (0.5, 0.99)]
        return Served(len(self._seconds), len(times), at[0] * 1000, at[1] * 1000)


def ask(address: tuple[str, int]) -> bool:
    """Return whether a request on a new connection has success."""
    try:
        with socket.create_connection(address, TIMEOUT_SECONDS) as client:
            client.sendall(REQUEST)
            said = b""
            while part := client.recv(65536):
                said += part
    except OSError:
        return False
    return said.startswith(b"HTTP/1.1 200")
