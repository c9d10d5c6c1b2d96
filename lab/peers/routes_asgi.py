"""The routes of lab/peers/routes.py as an ASGI application, which blocks its loop as one that knows no better does."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from lab.peers.routes import BIG, BLOCK, BLOCK_SECONDS, LONG_BYTES

HELLO = b"hello from an ASGI server\n"

Send = Callable[[dict[str, Any]], Awaitable[None]]


async def app(scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]], send: Send) -> None:  # noqa: ARG001
    """Respond, after a while where the path asks for that."""
    if scope["type"] != "http":
        return
    body = bytes(LONG_BYTES) if scope["path"] == BIG else HELLO
    if scope["path"] == BLOCK:
        time.sleep(BLOCK_SECONDS)
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
