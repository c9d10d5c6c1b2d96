"""Reads a server's `/metrics` once a second, as Prometheus does in the stack."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Self

import httpx

if TYPE_CHECKING:
    from types import TracebackType

INTERVAL_SECONDS = 1.0


class Scraper:
    """A context manager with a thread that scrapes, on processor `cpu`. `scrapes` and `failures` count what it did."""

    def __init__(self, admin_url: str, cpu: int) -> None:
        self.scrapes = 0
        self.failures = 0
        self._cpu = cpu
        self._url = f"{admin_url}/metrics"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scraper", daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End, after the scrape that is under way."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        os.sched_setaffinity(0, {self._cpu})  # of this thread: it must not run on the server's core
        with httpx.Client(timeout=5.0, trust_env=False) as client:
            while not self._stop.is_set():
                self._scrape(client)
                self._stop.wait(INTERVAL_SECONDS)

    def _scrape(self, client: httpx.Client) -> None:
        try:
            client.get(self._url).raise_for_status()
            self.scrapes += 1
        except httpx.HTTPError:
            self.failures += 1
