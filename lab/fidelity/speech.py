"""Requests of each protocol, and where a response ends: enough to put the same question to any server."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.peers.routes import LONG_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
READY_FOR_QUERY = b"Z\x00\x00\x00\x05"
"""PostgreSQL's last message of a response, but for a byte of status."""


@dataclass(frozen=True, slots=True)
class Speech:
    """Words that a system understands."""

    request: bytes
    """A small request, which any worker can respond to at once."""
    is_whole: Callable[[bytes], bool]
    """Tells whether so many bytes are a whole response."""
    long_request: bytes = b""
    """Its response is `LONG_BYTES` long; empty: the system has none such."""
    blocking_request: bytes = b""
    """Keeps whoever executes it for some seconds; empty: the system has none such."""
    greeting: bytes = b""
    """Sent first on each connection, before any request; it has a response."""


def http(long: str = "/big", blocking: str = "/block") -> Speech:
    """Return HTTP/1.1, with the paths of a long response and of a request that blocks."""
    return Speech(_get("/"), http_is_whole, _get(long), _get(blocking))


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n".encode()


def http_is_whole(data: bytes) -> bool:
    """Return whether head and body are there; nothing but a good response is one."""
    head, end, body = data.partition(b"\r\n\r\n")
    length = LENGTH.search(head)
    return bool(end) and head.startswith(b"HTTP/1.1 200 ") and len(body) >= (int(length[1]) if length else 0)


MEMCACHE = Speech(b"version\r\n", lambda data: data.endswith(b"\r\n"))
REDIS = Speech(
    b"PING\r\n",
    lambda data: data.endswith(b"\r\n") and (data[:1] != b"$" or len(data) > LONG_BYTES),
    long_request=b"GET long\r\n",
    blocking_request=b"DEBUG SLEEP 6\r\n",
)


def _message(kind: bytes, content: bytes) -> bytes:
    return kind + (len(content) + 4).to_bytes(4, "big") + content


POSTGRES = Speech(
    _message(b"Q", b"SELECT 1\0"),
    lambda data: data[-6:-1] == READY_FOR_QUERY,
    blocking_request=_message(b"Q", b"SELECT pg_sleep(6)\0"),
    greeting=_message(b"", b"\0\3\0\0user\0lab\0database\0postgres\0\0"),
)
