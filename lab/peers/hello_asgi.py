"""The least ASGI application, for the servers that need one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

BODY = b"hello from an ASGI server\n"
HEADERS = [(b"content-type", b"text/plain"), (b"content-length", str(len(BODY)).encode())]

Send = Callable[[dict[str, Any]], Awaitable[None]]


async def app(scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]], send: Send) -> None:  # noqa: ARG001
    """Answer every request with the same text."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": BODY})
