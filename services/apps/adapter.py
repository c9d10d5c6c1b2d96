"""Adapter: calls an application of the user's own as its interface wants it."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from functools import lru_cache
from typing import TYPE_CHECKING
from wsgiref.util import is_hop_by_hop

if TYPE_CHECKING:
    from services.apps.asyncio_loop import AsyncioLoop
    from services.messages import Later, Message, Response

MAX_COLLECTED_BYTES = 64 * 1024 * 1024
"""Of a response that is handed over whole."""
MAX_NAMES = 1000
"""Kept of a table of names: clients and applications may send any."""
NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
FIELD, LENGTH, OURS, CONNECTION = 1, 2, 3, 4
"""Kinds of a response's fields: OURS are the server's to say, and so are those about the connection."""


@lru_cache(MAX_NAMES)
def kind_of(name: str) -> int:
    """Return the kind of a response's field. Raises ValueError for one that is no name."""
    if not NAME.fullmatch(name):
        raise ValueError(f"header {name!r} is not a name")
    if is_hop_by_hop(name):
        return CONNECTION
    return {"content-length": LENGTH, "date": OURS}.get(name.lower(), FIELD)


def check_collected(size: int) -> None:
    """Raise RuntimeError where a response that is handed over whole is too large."""
    if size > MAX_COLLECTED_BYTES:
        raise RuntimeError(f"a response that is handed off may have {MAX_COLLECTED_BYTES} bytes")


class Adapter(ABC):
    """One worker's application. Everything but `close` is called by that worker's own thread."""

    @abstractmethod
    def execute(self, message: Message) -> Response | Later:
        """Call the application: a `Handler` (services/messages.py)."""

    def start(self) -> AsyncioLoop | None:
        """Start the application; return its loop, if it has one. Raises `loading.LoadError`."""
        return None

    def finish(self) -> bool:
        """End the application; return whether that is done. Called again until it is, or time is up."""
        return True

    def close(self) -> None:  # noqa: B027
        """Give back what it held, after its end. From any thread."""
