"""Real servers to measure beside our own: how to start and observe each.

Each file has the same shape: `NAME`, `HOW_TO_GET`, `available()` for the version that is installed, and
`start(port, workers, cpus)`, a context manager that yields the running server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from lab.peers import aiohttp, granian, gunicorn_asgi, gunicorn_gthread, memcached, nginx, node, uvicorn

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from lab.peers.process import Cpus, Peer


class PeerKind(Protocol):
    """Interface of every file of a real server."""

    NAME: str
    HOW_TO_GET: str

    def available(self) -> str | None:
        """The version installed, or None."""

    def start(self, port: int = 0, workers: int = 1, cpus: Cpus = None) -> AbstractContextManager[Peer]:
        """A running server; raises PeerError."""


HTTP_KINDS: tuple[PeerKind, ...] = (nginx, node, granian, uvicorn, gunicorn_asgi, gunicorn_gthread, aiohttp)
HTTP_PEERS: dict[str, PeerKind] = {kind.NAME: kind for kind in HTTP_KINDS}
PEERS: dict[str, PeerKind] = {**HTTP_PEERS, memcached.NAME: memcached}
