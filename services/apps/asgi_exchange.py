"""One request of an ASGI application and its response.

What goes out, and when:

- A body of one piece, or of several that are there before the application first awaits: with its length.
- Any other body: the first piece with the head, and each further one when the kernel has taken those before. `send`
  awaits while HIGH_WATER_BYTES are left. Chunked, unless the application gives a Content-Length.
- Where requests are handed off (ramcloud), whoever executes does not write: the response is collected first.

What the application hears of its client: `http.disconnect`, when the client has sent its last byte or the response is
complete. A client may close one direction only and still wait, so the task goes on, and what it sends is sent. Once the
connection is gone, `send` raises an OSError, and a task that goes on all the same is cancelled after GRACE_SECONDS. A
task whose response is complete is never cancelled: it does what is to be done afterwards (background tasks).
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from services.apps.adapter import check_collected
from services.apps.asgi_events import AsgiApplication, Event, Scope, body_of, bytes_of, encode_fields
from services.apps.failure import INTERNAL_ERROR, describe
from services.messages import BODILESS, CutShortError, Request, Response

if TYPE_CHECKING:
    from services.apps.asyncio_loop import AsyncioLoop

logger = logging.getLogger("services")

HIGH_WATER_BYTES = 64 * 1024
"""Of a response's body, behind which `send` awaits."""
GRACE_SECONDS = 5.0
"""A task whose client is gone, or has all that it will get, has so long to end by itself."""
MAX_ABANDONED = 1000
"""Such tasks; more are cancelled at once."""


class GoneError(ConnectionError):
    """Raised by `send`: the client's connection is closed."""


class Shared:
    """State that all exchanges of one worker share."""

    loop: AsyncioLoop

    def __init__(self, worker: str, *, hands_off: bool) -> None:
        self.worker = worker.encode()
        self.hands_off = hands_off
        self.context = contextvars.Context()
        self.abandoned: set[Exchange] = set()
        """Those whose client is gone, and whose task goes on."""


class Exchange:
    """One request and its response: what the application receives and sends. A `Later`, and the response's `Pieces`."""

    __slots__ = (
        "_abandoned",
        "_bodiless",
        "_body",
        "_call_back",
        "_code",
        "_complete",
        "_drained",
        "_ended",
        "_failed",
        "_fields",
        "_gone",
        "_ignores",
        "_length",
        "_queue",
        "_queued",
        "_request",
        "_response",
        "_sent",
        "_shared",
        "size",
        "task",
    )  # fmt: skip

    code = ""

    def __init__(self, shared: Shared, request: Request) -> None:
        self.task: asyncio.Task[None] | None = None
        """Its task, once that has first awaited something."""
        self._shared = shared
        self._request = request
        self._body: Iterator[Event] = body_of(request)
        self._code = ""
        self._fields = b""
        self._length: int | None = None
        self._sent = 0
        self._queue: list[bytes] = []
        """Pieces that the connection has not asked for."""
        self._queued = 0
        self._response: Response | None = None
        self._call_back: Callable[..., None] | None = None
        """Called when the response is there, or the next piece."""
        self._drained: asyncio.Future[None] | None = None
        """Set while `send` awaits the connection."""
        self._ended: asyncio.Event | None = None
        """Set while `receive` awaits the client's end."""
        self._abandoned: asyncio.TimerHandle | None = None
        self._bodiless = self._complete = self._failed = self._gone = False
        self._ignores = False
        """The response has no body, and is out: further pieces of it are thrown away."""
        self.size: int | None = None

    async def run(self, application: AsgiApplication, scope: Scope) -> None:
        """Call the application; see to it that there is a response, whatever becomes of the call."""
        try:
            await application(scope, self.receive, self.send)
        except asyncio.CancelledError:
            if not (self._gone or self._ignores):
                self._fail("was cancelled")
        except Exception as error:
            if self._gone:
                logger.info("worker %s: no client left for %s: %r", self._worker, describe(self._request), error)
            else:
                logger.exception("worker %s: the application failed on %s", self._worker, describe(self._request))
                self._fail()
        else:
            if not (self._complete or self._gone):
                self._fail("returned without a complete response")
        finally:
            if self._abandoned is not None:
                self._abandoned.cancel()
                self._shared.abandoned.discard(self)

    # Called by the application.

    async def receive(self) -> Event:
        """Return the next piece of the body; behind it await the client's end."""
        if (event := next(self._body, None)) is not None:
            return event
        if not self._complete:
            if self._ended is None:
                self._ended = asyncio.Event()
            await self._ended.wait()
        return {"type": "http.disconnect"}

    async def send(self, event: Event) -> None:
        """Take the response's head, or the next piece of its body, and await a client that does not keep up."""
        if self._gone:
            raise GoneError("the client has closed the connection")
        if not self._code:
            self._start(event)
            return
        if event["type"] != "http.response.body" or self._complete:
            where = "behind the last piece of its body" if self._complete else "in place of 'http.response.body'"
            raise RuntimeError(f"the application sent {event['type']!r} {where}")
        piece = bytes_of(event.get("body", b""))
        if self._ignores:
            self._complete = not event.get("more_body", False)
            await asyncio.sleep(0)  # an application that sends without end holds up nobody, and is cancelled
            return
        if event.get("more_body", False) or self._response is not None or self._queue or self._bodiless:
            self._take(piece, last=not event.get("more_body", False))
        elif self._length is None or self._length == len(piece):  # a body of one piece, as nearly all are
            self._complete = True
            fields = b"%bContent-Length: %d\r\n" % (self._fields, len(piece))
            self._response = response = Response(self._code, piece, b"", fields, None, self._shared.worker)
            if self._call_back is not None:
                self._notify(response)
            if self._ended is not None:
                self._ended.set()
        else:
            self._take(piece, last=True)
        # Not behind the last piece, which may go out with the first: then nobody asks for any.
        if self._queued > HIGH_WATER_BYTES and not self._complete:
            await self._wait_for_client()

    async def _wait_for_client(self) -> None:
        if self._shared.hands_off:  # it is collected
            return
        if self._drained is None:
            self._drained = self._shared.loop.create_future()
        await asyncio.shield(self._drained)  # of two tasks that send, one may be cancelled

    def _start(self, event: Event) -> None:
        if event["type"] != "http.response.start":
            raise RuntimeError(f"the application sent {event['type']!r} in place of 'http.response.start'")
        code = event["status"]
        if not 200 <= code <= 999:
            raise ValueError(f"status {code!r}: give a number from 200 to 999")
        self._fields, self._length = encode_fields(event.get("headers", ()))
        self._code = str(int(code))
        self._bodiless = self._request.method == "HEAD" or self._code in BODILESS

    def _take(self, piece: bytes, *, last: bool) -> None:
        """Take a piece, and give the response out if this is its first or, where it is collected, its last."""
        if not self._bodiless:
            self._sent += len(piece)
            self._check_size(last=last)
        self._complete = last
        if last and self._ended is not None:
            self._ended.set()
        if self._bodiless:
            self._give(b"", len(piece) if last and piece and self._length is None else self._length)
            if not last:
                self._ignores = True
                self._abandon()
        elif self._response is not None or (self._shared.hands_off and not last):
            self._queue_up(piece)
        elif self._shared.hands_off and self._queue:
            self._give(b"".join([*self._queue, piece]), self._sent)
        elif last:
            self._give(piece, self._sent)
        else:
            self.size = None if self._length is None else self._length - len(piece)
            self._give(piece, self._length, self)

    def _check_size(self, *, last: bool) -> None:
        length = self._length
        if length is not None and (self._sent > length or (last and self._sent < length)):
            raise RuntimeError(f"the application announced {length} bytes and sent {self._sent}")
        if self._shared.hands_off:
            check_collected(self._sent)

    def _queue_up(self, piece: bytes) -> None:
        if piece:
            self._queue.append(piece)
            self._queued += len(piece)
        if self._response is not None:
            self._notify()

    # Called by the connection, in between.

    def take_response(self) -> Response | None:
        """Return the response if it can be given out at once, whole if it is complete already."""
        response = self._response
        if response is None or response.pieces is None:
            return response
        if self._failed:
            return self._failure()
        if self._complete:
            response.pieces = None
            response.body = b"".join([response.body, *self._queue])
            if self._length is None:
                response.headers += b"Content-Length: %d\r\n" % len(response.body)
        return response

    def then(self, callback: Callable[[Response], None]) -> None:
        """Call back when the response is there. See `messages.Later`."""
        self._call_back = callback

    def when_more(self, callback: Callable[[], None]) -> None:
        """Call back when there is a piece, or will be none. See `messages.Later`."""
        self._call_back = callback
        if self._queue or self._complete or self._failed:
            self._notify()

    @property
    def later(self) -> Exchange:
        """The maker of the pieces: itself."""
        return self

    def __iter__(self) -> Iterator[bytes]:
        """Yield what has been sent since the last piece; an empty one where that is nothing."""
        while True:
            pieces, self._queue, self._queued = self._queue, [], 0
            self._release()
            if pieces:
                yield b"".join(pieces)
            elif self._failed:
                raise CutShortError
            elif self._complete:
                return
            else:
                yield b""

    def end_of_input(self) -> None:
        """Tell the application that its client has sent its last byte."""
        if self._ended is None:
            self._ended = asyncio.Event()
        self._ended.set()

    def cancel(self) -> None:
        """Tell the application that its client is gone, unless it has nothing more to send."""
        if self._complete or self._gone or self._failed:
            return
        self._gone = True
        self._call_back = None
        self._queue, self._queued = [], 0
        self.end_of_input()
        self._release()
        if self.task is not None and not self.task.done():
            self._abandon()

    def begin_to_wait(self) -> None:
        """Note that the task awaits something."""
        if self._gone:
            self._abandon()

    def close(self) -> None:
        """Send no more pieces. See `messages.Pieces`."""
        self.cancel()

    def give_up(self) -> None:
        """Cancel the task: nobody waits for it."""
        if self.task is not None and not self.task.cancelling():
            self.task.cancel()

    def _abandon(self) -> None:
        shared = self._shared
        shared.abandoned.add(self)
        seconds = GRACE_SECONDS if len(shared.abandoned) <= MAX_ABANDONED else 0.0
        self._abandoned = shared.loop.call_later(seconds, self.give_up)

    # Its own.

    def _give(self, body: bytes, length: int | None, pieces: Exchange | None = None) -> None:
        """Give the response out: to `execute` while that has not returned, or else to the connection."""
        fields = self._fields
        if length is not None and self._code != "204":
            fields += b"Content-Length: %d\r\n" % length
        self._response = Response(self._code, body, b"", fields, pieces, self._shared.worker)
        self._notify(self._response)

    def _notify(self, *arguments: Response) -> None:
        call_back, self._call_back = self._call_back, None
        if call_back is not None:
            # Not in the application's context: the callback may begin the next request, which has one of its own.
            self._shared.loop.call_soon(call_back, *arguments, context=self._shared.context)

    def _release(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def _fail(self, why: str = "") -> None:
        """Respond with 500, or cut the response short, unless it is complete."""
        if why:
            logger.error("worker %s: the application %s on %s", self._worker, why, describe(self._request))
        if self._complete:
            return
        self._failed = True
        if self._response is None:
            self._response = self._failure()
            self._notify(self._response)
        else:
            self._notify()

    def _failure(self) -> Response:
        return Response("500", INTERNAL_ERROR, worker=self._shared.worker)

    @property
    def _worker(self) -> str:
        return self._shared.worker.decode()
