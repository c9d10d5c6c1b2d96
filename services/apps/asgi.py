"""ASGI 3: an asynchronous application of the user's own, HTTP and lifespan (asgi.readthedocs.io, spec version 2.4).

A request is a task on the worker's asyncio loop (asyncio_loop.py). It begins at once, in the call of `execute`: if it
responds before it first awaits something, that is all, and the response is returned as the built-in application returns
one. Otherwise `execute` returns the exchange itself, a `Later`, and the server goes on.

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
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from services.apps.adapter import Adapter
from services.apps.asyncio_loop import AsyncioLoop, close
from services.apps.loading import LoadError
from services.apps.spool import Spool
from services.messages import BODILESS, CutShortError, Later, Message, Request, Response

if TYPE_CHECKING:
    from services.apps.surroundings import Surroundings

logger = logging.getLogger("services")

Event = dict[str, Any]
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
AsgiApplication = Callable[[Scope, Receive, Send], Awaitable[None]]

VERSIONS = {"version": "3.0", "spec_version": "2.4"}
PIECE_BYTES = 64 * 1024
"""Of a request's body that is in a file."""
HIGH_WATER_BYTES = 64 * 1024
"""Of a response's body, behind which `send` awaits."""
MAX_COLLECTED_BYTES = 64 * 1024 * 1024
GRACE_SECONDS = 5.0
"""A task whose client is gone has so long to end by itself."""
MAX_ABANDONED = 1000
"""Such tasks; more are cancelled at once."""
MAX_TASKS = 20_000
"""Tasks that await something; more requests are refused. Only those whose response is complete can be so many."""
MAX_NAMES = 1000
"""Kept of the table of names: an application may send any."""
NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
FIELD, LENGTH, OURS = 1, 2, 3
HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-authenticate", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)
KINDS: dict[bytes, int] = {}
"""Names of response fields, as they came: FIELD, LENGTH, or OURS for what is the server's to say."""

NOT_HTTP = b"SERVER_ERROR an application of one's own speaks HTTP only\r\n"
FAILURE = b"internal error; the server's log has the details\n"
NO_ROOM = b"the server has no room for this body\n"
NO_WEBSOCKET = b"WebSocket is not served here: this server speaks HTTP only\n"
TOO_MANY = b"too many requests are under way; try again\n"


class GoneError(ConnectionError):
    """Raised by `send`: the client's connection is closed."""


class AsgiAdapter(Adapter):
    """One worker's application; `execute` is a `Handler` (services/messages.py). All but `close` is for its thread."""

    def __init__(self, application: AsgiApplication, surroundings: Surroundings, name: str) -> None:
        """`name` is for errors: the application's on the command line."""
        self.application = application
        self.worker = surroundings.worker.encode()
        self.hands_off = surroundings.hands_off
        self.loop: AsyncioLoop
        self.context = contextvars.Context()
        self.abandoned: set[Exchange] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._lifespan = Lifespan(application, name)
        self._state: dict[str, Any] | None = None
        self._server = (surroundings.host, surroundings.port)

    # Its life.

    def start(self) -> AsyncioLoop:
        """Make the asyncio loop, and start the application up. Raises `LoadError` if that fails."""
        self.loop = loop = AsyncioLoop()
        asyncio._set_running_loop(None)  # a predecessor's in this thread, after a change of options
        loop.run_until_complete(self._lifespan.start())
        self._state = self._lifespan.state
        loop.begin()
        return loop

    def finish(self) -> bool:
        """Let the tasks end that still run, then shut the application down; return whether that is done."""
        for exchange in self.abandoned:
            exchange.give_up()
        if self._tasks or not self._lifespan.shut_down():
            return False
        self.loop.end()
        return True

    def close(self) -> None:
        """Give back the loop's descriptors. From any thread, after the end."""
        if hasattr(self, "loop"):
            close(self.loop)

    # Requests.

    def execute(self, message: Message) -> Response | Later:
        """Begin the request; an exception is logged with its traceback and becomes a 500."""
        if not isinstance(message, Request):
            return Response("SERVER_ERROR", NOT_HTTP)
        if (refusal := self._refusal(message)) is not None:
            refusal.worker = self.worker
            return refusal
        exchange = Exchange(self, message)
        exchange.task = task = self.loop.run_eagerly(exchange.run(self.application, self._scope(message)))
        response = exchange.take_response()
        if not task.done():
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            exchange.begin_to_wait()
            if response is None:
                return exchange
        assert response is not None
        return response

    def _refusal(self, request: Request) -> Response | None:
        """Return the response to what the application is not asked."""
        if isinstance(request.reader, Spool) and request.reader.failed:
            return Response("507", NO_ROOM)
        if len(self._tasks) >= MAX_TASKS:
            return Response("503", TOO_MANY)
        # By the handshake's other field, since the parser has ignored Upgrade; a head that is still bytes had none.
        if not isinstance(request.fields, bytes) and b"sec-websocket-key" in request.fields:
            logger.warning("worker %s: a WebSocket was refused: %s", self.worker.decode(), describe(request))
            return Response("501", NO_WEBSOCKET)
        return None

    def _scope(self, request: Request) -> Scope:
        raw_path, _, query = request.target.partition(b"?")
        headers = fields_of(request)
        if raw_path[:1] != b"/":
            raw_path = path_of(raw_path, headers)
        path = unquote_to_bytes(raw_path) if b"%" in raw_path else raw_path
        scope = {
            "type": "http",
            "asgi": VERSIONS.copy(),
            "http_version": "1.1" if request.http_minor else "1.0",
            "method": request.method,
            "scheme": "http",
            "path": path.decode("utf-8", "replace"),
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": headers,
            "client": request.peer,
            "server": self._server,
        }
        if self._state is not None:
            scope["state"] = self._state.copy()
        return scope


class Exchange:
    """One request and its response: what the application receives and sends. A `Later`, and the response's `Pieces`."""

    __slots__ = (
        "_abandoned",
        "_adapter",
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
        "_length",
        "_queue",
        "_queued",
        "_request",
        "_response",
        "_sent",
        "size",
        "task",
    )  # fmt: skip

    code = ""

    def __init__(self, adapter: AsgiAdapter, request: Request) -> None:
        self.task: asyncio.Task[None] | None = None
        """Its task, once that has first awaited something."""
        self._adapter = adapter
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
        self.size: int | None = None

    async def run(self, application: AsgiApplication, scope: Scope) -> None:
        """Call the application; see to it that there is a response, whatever becomes of the call."""
        try:
            await application(scope, self.receive, self.send)
        except asyncio.CancelledError:
            if not self._gone:
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
                self._adapter.abandoned.discard(self)

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
        if event.get("more_body", False) or self._response is not None or self._queue or self._bodiless:
            self._take(piece, last=not event.get("more_body", False))
        elif self._length is None or self._length == len(piece):  # a body of one piece, as nearly all are
            self._complete = True
            fields = b"%bContent-Length: %d\r\n" % (self._fields, len(piece))
            self._response = response = Response(self._code, piece, b"", fields, None, self._adapter.worker)
            if self._call_back is not None:
                self._notify(response)
            if self._ended is not None:
                self._ended.set()
        else:
            self._take(piece, last=True)
        if self._queued > HIGH_WATER_BYTES and not self._adapter.hands_off:
            self._drained = self._adapter.loop.create_future()
            await self._drained

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
            self.cancel()  # nobody takes the rest
        elif self._response is not None or (self._adapter.hands_off and not last):
            self._queue_up(piece)
        elif self._adapter.hands_off and self._queue:
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
        if self._adapter.hands_off and self._sent > MAX_COLLECTED_BYTES:
            raise RuntimeError(f"a response that is handed off may have {MAX_COLLECTED_BYTES} bytes")

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
        adapter = self._adapter
        adapter.abandoned.add(self)
        seconds = GRACE_SECONDS if len(adapter.abandoned) <= MAX_ABANDONED else 0.0
        self._abandoned = adapter.loop.call_later(seconds, self.give_up)

    # Its own.

    def _give(self, body: bytes, length: int | None, pieces: Exchange | None = None) -> None:
        """Give the response out: to `execute` while that has not returned, or else to the connection."""
        fields = self._fields
        if length is not None and self._code != "204":
            fields += b"Content-Length: %d\r\n" % length
        self._response = Response(self._code, body, b"", fields, pieces, self._adapter.worker)
        self._notify(self._response)

    def _notify(self, *arguments: Response) -> None:
        call_back, self._call_back = self._call_back, None
        if call_back is not None:
            # Not in the application's context: the callback may begin the next request, which has one of its own.
            self._adapter.loop.call_soon(call_back, *arguments, context=self._adapter.context)

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
        return Response("500", FAILURE, worker=self._adapter.worker)

    @property
    def _worker(self) -> str:
        return self._adapter.worker.decode()


class Lifespan:
    """The application's start and end in this worker, by its own wish: one that knows of none raises, or returns."""

    def __init__(self, application: AsgiApplication, name: str) -> None:
        self._application = application
        self._name = name
        self.state: dict[str, Any] | None = None
        """For `scope["state"]`; None for an application that has no lifespan."""
        self._events: asyncio.Queue[Event]
        self._task: asyncio.Task[None] | None = None
        self._started: asyncio.Future[str | None]
        self._is_shut_down = False

    async def start(self) -> None:
        """Start the application up. Raises `LoadError` if it says that it cannot."""
        loop = asyncio.get_running_loop()
        self._events = asyncio.Queue()
        self._events.put_nowait({"type": "lifespan.startup"})
        self._started = loop.create_future()
        state: dict[str, Any] = {}
        self._task = loop.create_task(self._run(state))
        if (failure := await self._started) is not None:
            raise LoadError(f"--app {self._name}: its startup failed: {failure}")
        if self._task.done():
            self._task = None
        else:
            self.state = state

    def shut_down(self) -> bool:
        """Begin the shutdown; return whether it is done."""
        if self._task is None or self._task.done():
            return True
        if not self._is_shut_down:
            self._is_shut_down = True
            self._events.put_nowait({"type": "lifespan.shutdown"})
        return False

    async def _run(self, state: dict[str, Any]) -> None:
        scope = {"type": "lifespan", "asgi": VERSIONS.copy(), "state": state}
        try:
            await self._application(scope, self._events.get, self._send)
        except Exception as error:
            if not self._started.done():
                logger.info("--app %s: no lifespan (%s: %s)", self._name, type(error).__name__, error)
            elif self._started.result() is None:  # it has started; a failed startup is said elsewhere
                logger.exception("--app %s: its lifespan failed", self._name)
        finally:
            if not self._started.done():
                self._started.set_result(None)

    async def _send(self, event: Event) -> None:
        kind, text = event["type"], str(event.get("message", "")).strip()
        if kind == "lifespan.startup.failed":
            logger.error("--app %s: its startup failed: %s", self._name, text)
            if not self._started.done():
                self._started.set_result((text or "it gave no reason").splitlines()[-1])
        elif kind == "lifespan.shutdown.failed":
            logger.error("--app %s: its shutdown failed: %s", self._name, text)
        elif kind == "lifespan.startup.complete":
            if not self._started.done():
                self._started.set_result(None)
        elif kind != "lifespan.shutdown.complete":
            raise RuntimeError(f"the application sent {kind!r} in its lifespan")


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
        kind = KINDS.get(name) or kind_of(name)
        if kind == FIELD:
            text += name + b": " + value + b"\r\n"
            lines += 1
        elif kind == LENGTH:
            length = int(value)
    if len(text.splitlines()) != lines or b"\0" in text:
        raise ValueError("a header's value has a line's end in it, or a zero byte")
    return text, length


def kind_of(name: bytes) -> int:
    """Return the kind of a response's field. Raises ValueError for one that is no name."""
    if not NAME.fullmatch(name):
        raise ValueError(f"header {name!r} is not a name")
    lower = name.lower()
    kind = LENGTH if lower == b"content-length" else OURS if lower == b"date" or lower in HOP_BY_HOP else FIELD
    if len(KINDS) < MAX_NAMES:
        KINDS[name] = kind
    return kind


def bytes_of(body: object) -> bytes:
    """Return a piece of the body. Raises TypeError where it is text, say."""
    if isinstance(body, bytes):
        return body
    if isinstance(body, bytearray | memoryview):
        return bytes(body)
    raise TypeError(f"a piece of the body is of type {type(body).__name__}, not bytes")


def describe(request: Request) -> str:
    """Return enough to find the request again, without its body."""
    return f"{request.method} {request.target!r}"
