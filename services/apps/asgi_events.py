"""ASGI's dictionaries: a request as events and a scope's fields, a response's fields as bytes. No state, no loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import lru_cache, partial
from typing import Any

from services.apps.adapter import FIELD, LENGTH, MAX_NAMES, kind_of
from services.apps.spool import Spool
from services.messages import Request

Event = dict[str, Any]
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
AsgiApplication = Callable[[Scope, Receive, Send], Awaitable[None]]

VERSIONS = {"version": "3.0", "spec_version": "2.4"}
PIECE_BYTES = 64 * 1024
"""Of a request's body that is in a file."""


# The request.


def body_of(request: Request) -> Iterator[Event]:
    """Yield the body's events: one, or several for a body that is in a file."""
    reader = request.reader
    if not (isinstance(reader, Spool) and request.body_size):
        yield {"type": "http.request", "body": request.body, "more_body": False}
        return
    left = request.body_size
    for piece in iter(partial(reader.file().read, PIECE_BYTES), b""):
        left -= len(piece)
        yield {"type": "http.request", "body": piece, "more_body": left > 0}


def fields_of(request: Request) -> list[tuple[bytes, bytes]]:
    """Return the header fields in their order, names in lower case."""
    fields = request.fields
    if not isinstance(fields, bytes):
        return list(fields.items())
    lines = fields.rstrip(b"\r\n").split(b"\r\n")
    del lines[0]
    pairs = []
    for line in lines:
        name, _, value = line.partition(b":")
        pairs.append((name.lower(), value.strip(b" \t")))
    return pairs


def path_of(target: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """Return the path of a target that is a whole URL, whose host then counts (RFC 9112 § 3.2.2); `*` as it is."""
    _, _, rest = target.partition(b"://")
    if not rest:
        return target
    host, slash, path = rest.partition(b"/")
    headers[:] = [(b"host", host.rpartition(b"@")[2]), *(field for field in headers if field[0] != b"host")]
    return slash + path or b"/"


# The response.


def encode_fields(headers: Iterable[tuple[bytes, bytes]]) -> tuple[bytes, int | None]:
    """Return the header lines, and the Content-Length, which is not among them. Raises ValueError or TypeError."""
    text, lines, length = b"", 0, None
    for name, value in headers:
        kind = kind_of_bytes(name)
        if kind == FIELD:
            text += name + b": " + value + b"\r\n"
            lines += 1
        elif kind == LENGTH:
            length = int(value)
    if len(text.splitlines()) != lines or b"\0" in text:
        raise ValueError("a header's value has a line's end in it, or a zero byte")
    return text, length


@lru_cache(MAX_NAMES)
def kind_of_bytes(name: bytes) -> int:
    """Return the kind of a response's field. Raises ValueError for one that is no name."""
    return kind_of(name.decode("latin-1"))


def bytes_of(body: object) -> bytes:
    """Return a piece of the body. Raises TypeError where it is text, say."""
    if isinstance(body, bytes):
        return body
    if isinstance(body, bytearray | memoryview):
        return bytes(body)
    raise TypeError(f"a piece of the body is of type {type(body).__name__}, not bytes")
