"""Bodies that are larger than memory: `/stream` sends one, `/sink` takes one. Neither is ever held."""

from __future__ import annotations

from services.apps.parameters import BadRequestError, integer, query_of
from services.apps.router import path_of
from services.messages import Request, Response

MAX_STREAM_BYTES = 1 << 40
MAX_RATE = 1 << 40
"""Bytes a second."""
SINK = b"/sink"


def answer_stream(request: Request) -> Response:
    """GET /stream?bytes=N: the body is the response's filler, which whoever writes makes piece by piece."""
    size = integer(query_of(request.target), "bytes", None, 0, MAX_STREAM_BYTES)
    return Response("200", content_type=b"application/octet-stream", filler=size)


def answer_sink(request: Request) -> Response:
    """POST /sink?rate=B/s: by now the protocol has read the body, at that rate, and thrown it away."""
    _rate_in(request)
    return Response("200", b"%d bytes received\n" % request.body_size)


def sink_rate(request: Request) -> int | None:
    """For a POST to /sink, the bytes a second at which its body is to be read and dropped (0: no limit).

    None for everything else. A rate that makes no sense counts as none: the application refuses it
    when the body is through. Never raises.
    """
    if request.method != "POST" or SINK not in request.target or path_of(request.target) != SINK:
        return None
    try:
        return _rate_in(request)
    except BadRequestError:
        return 0


def _rate_in(request: Request) -> int:
    return integer(query_of(request.target), "rate", 0, 0, MAX_RATE)
