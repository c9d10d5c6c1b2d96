"""Words for what goes wrong with an application, the built-in one or one of the user's own."""

from __future__ import annotations

from services.messages import Command, Message

INTERNAL_ERROR = b"internal error; the server's log has the details\n"
NOT_HTTP = b"SERVER_ERROR an application of one's own speaks HTTP only\r\n"
NO_ROOM = b"the server has no room for this body\n"


def describe(message: Message) -> str:
    """Return enough to find the request again, without its body."""
    if isinstance(message, Command):
        return f"{message.name} {message.keys!r}"
    return f"{message.method} {message.target!r}"
