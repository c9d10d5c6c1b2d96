"""Adapter: calls an application of the user's own as its interface wants it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.apps.asyncio_loop import AsyncioLoop
    from services.messages import Later, Message, Response


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
