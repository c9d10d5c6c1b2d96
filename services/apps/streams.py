"""Bodies that are larger than memory: `/stream` sends one, `/sink` takes one. Neither is ever held."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

from services.apps.parameters import BadRequestError, integer, query_of
from services.apps.router import path_of
from services.messages import Request, Response

MAX_STREAM_BYTES = 1 << 40
MAX_RATE = 1 << 40
"""Bytes a second."""
SINK = b"/sink"
PIECE = memoryview(bytes(65536))
READ_BYTES = 65536
MAX_PAUSE_SECONDS = 60.0
"""After one piece: a peer that is gone must not keep its connection for hours."""
SLOW_READ_SECONDS = 0.1
"""A body that is read at a rate is read this often."""


@dataclass(frozen=True, slots=True)
class Zeros:
    """So many zero bytes, as a response's pieces."""

    size: int
    later = None

    def __iter__(self) -> Iterator[memoryview]:
        for _ in range(self.size // len(PIECE)):
            yield PIECE
        if self.size % len(PIECE):
            yield PIECE[: self.size % len(PIECE)]

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""


class Sink:
    """Takes a body at `rate` bytes a second (0: as fast as it comes), and throws it away. A `BodyReader`."""

    max_bytes = sys.maxsize

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self.most_bytes = min(READ_BYTES, max(1, int(rate * SLOW_READ_SECONDS))) if rate else READ_BYTES

    def take(self, piece: bytes) -> float:
        """Throw the piece away; return the seconds that it takes at this rate, up to MAX_PAUSE_SECONDS."""
        return min(len(piece) / self._rate, MAX_PAUSE_SECONDS) if self._rate else 0.0


def send_stream(request: Request) -> Response:
    """Respond to GET /stream?bytes=N."""
    size = integer(query_of(request.target), "bytes", None, 0, MAX_STREAM_BYTES)
    return Response("200", content_type=b"application/octet-stream", pieces=Zeros(size) if size else None)


def take_sink(request: Request) -> Response:
    """Respond to POST /sink?rate=B/s, whose body has been taken by now."""
    _rate_in(request)
    return Response("200", b"%d bytes received\n" % request.body_size)


def open_body(request: Request) -> Sink | None:
    """Return who takes the body of a POST to /sink; None for all other requests. Never raises.

    A rate that makes no sense counts as none: the application refuses it when the body is through.
    """
    if request.method != "POST" or SINK not in request.target or path_of(request.target) != SINK:
        return None
    try:
        return Sink(_rate_in(request))
    except BadRequestError:
        return Sink(0)


def _rate_in(request: Request) -> int:
    return integer(query_of(request.target), "rate", 0, 0, MAX_RATE)
