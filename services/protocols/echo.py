"""Echo: what comes in goes out. The smallest protocol there is, for looking at queues and windows."""

from __future__ import annotations

from services.messages import Command, Message, Messages, Response


class Echo:
    """One connection's echo. Holds nothing."""

    __slots__ = ()

    phase = "idle"
    closing = False

    def receive(self, data: bytes) -> Messages:
        """Make each piece a message of its own."""
        return [Command("echo", value=data)]

    def encode(self, message: Message | None, response: Response) -> bytes:  # noqa: ARG002
        """Return the body as it is."""
        return response.body

    def timed_out(self) -> Response | None:
        """Return None: there is nothing to say."""
        return None

    def close(self) -> None:
        """Do nothing: there is nothing to let go of."""
