"""The least WSGI application, for the servers that need one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

BODY = b"hello from a WSGI server\n"
HEADERS = [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))]


def app(environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], Any]) -> Iterable[bytes]:  # noqa: ARG001
    """Respond to every request with the same text."""
    start_response("200 OK", HEADERS)
    return [BODY]
