"""The routes of lab/peers/routes.py as a WSGI application."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from lab.peers.routes import BIG, BLOCK, BLOCK_SECONDS, LONG_BYTES

HELLO = b"hello from a WSGI server\n"


def app(environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], Any]) -> Iterable[bytes]:
    """Respond, after a while where the path asks for that."""
    body = bytes(LONG_BYTES) if environ["PATH_INFO"] == BIG else HELLO
    if environ["PATH_INFO"] == BLOCK:
        time.sleep(BLOCK_SECONDS)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
