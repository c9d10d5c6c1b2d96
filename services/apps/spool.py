"""Bodies of requests for an application of one's own: taken as they come, kept in memory or a temporary file.

An application reads its input when it likes, and may block while it does; a connection's loop cannot wait for that. So
the whole body is there before the application is called, as NGINX has it by default (`proxy_request_buffering`): a slow
sender occupies no worker.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from services.messages import MAX_VALUE_BYTES, Request

logger = logging.getLogger("services")

MEMORY_BYTES = MAX_VALUE_BYTES
"""Of a body in memory; a larger one goes to a file. The protocol collects what is known to be no larger."""
READ_BYTES = 65536


class Spool:
    """One body. Holds MEMORY_BYTES in memory and `max_bytes` in a temporary file at most. A `BodyReader`.

    Pickled whole, for a worker process that a request is handed to: up to `max_bytes` in memory for that time.
    """

    most_bytes = READ_BYTES

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.failed = False
        """There is no room for it: what came behind is thrown away."""
        self._file: IO[bytes] = SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115

    def take(self, piece: bytes) -> float:
        """Take a piece; there is no pause after it."""
        if not self.failed:
            try:
                self._file.write(piece)
            except OSError as error:
                self.failed = True
                logger.error("no room for a request's body: %s", error)  # noqa: TRY400
                self._file = io.BytesIO()
        return 0.0

    def file(self) -> IO[bytes]:
        """Return the body, to be read from its beginning."""
        self._file.seek(0)
        return self._file

    def __reduce__(self) -> tuple[Any, ...]:
        return refill, (self.max_bytes, self.failed, self.file().read())


def refill(max_bytes: int, failed: bool, body: bytes) -> Spool:
    """Make a spool that has taken this body."""
    spool = Spool(max_bytes)
    spool.take(body)
    spool.failed = spool.failed or failed
    return spool


def spooler(max_bytes: int) -> Callable[[Request], Spool | None]:
    """Return a function for protocols that says who takes a request's body: nobody, where it is small."""

    def open_body(request: Request) -> Spool | None:
        length = request.headers.get(b"content-length", b"").lstrip(b"0")
        if b"transfer-encoding" not in request.headers and int(length or b"0") <= MEMORY_BYTES:
            return None
        return Spool(max_bytes)

    return open_body
