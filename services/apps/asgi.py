"""ASGI 3: an asynchronous application of the user's own, HTTP and lifespan (asgi.readthedocs.io, spec version 2.4).

A request is a task on the worker's asyncio loop (asyncio_loop.py). It begins at once, in the call of `execute`: if it
responds before it first awaits something, that is all, and the response is returned as the built-in application returns
one. Otherwise `execute` returns the exchange itself, a `Later`, and the server goes on. What goes out when, and what
the application hears of its client, is in asgi_exchange.py.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from services.apps.adapter import Adapter
from services.apps.asgi_events import VERSIONS, AsgiApplication, Scope, fields_of, path_of
from services.apps.asgi_exchange import Exchange, Shared
from services.apps.asgi_lifespan import Lifespan
from services.apps.asyncio_loop import AsyncioLoop, close
from services.apps.failure import NO_ROOM, NOT_HTTP, describe
from services.apps.spool import Spool
from services.messages import Later, Message, Request, Response

if TYPE_CHECKING:
    from services.apps.surroundings import Surroundings

logger = logging.getLogger("services")

MAX_TASKS = 20_000
"""Tasks that await something; more requests are refused. Only those whose response is complete can be so many."""
NO_WEBSOCKET = b"WebSocket is not served here: this server speaks HTTP only\n"
TOO_MANY = b"too many requests are under way; try again\n"


class AsgiAdapter(Adapter):
    """One worker's application; `execute` is a `Handler` (services/messages.py). All but `close` is for its thread."""

    def __init__(self, application: AsgiApplication, surroundings: Surroundings, name: str) -> None:
        """`name` is for errors: the application's on the command line."""
        self.application = application
        self.shared = Shared(surroundings.worker, hands_off=surroundings.hands_off)
        self._tasks: set[asyncio.Task[None]] = set()
        self._lifespan = Lifespan(application, name)
        self._state: dict[str, Any] | None = None
        self._server = (surroundings.host, surroundings.port)

    # Its life.

    def start(self) -> AsyncioLoop:
        """Make the asyncio loop, and start the application up. Raises `LoadError` if that fails."""
        self.shared.loop = loop = AsyncioLoop()
        asyncio._set_running_loop(None)  # a predecessor's in this thread, after a change of options
        loop.run_until_complete(self._lifespan.start())
        self._state = self._lifespan.state
        loop.begin()
        return loop

    def finish(self) -> bool:
        """Let the tasks end that still run, then shut the application down; return whether that is done."""
        for exchange in self.shared.abandoned:
            exchange.give_up()
        if self._tasks or not self._lifespan.shut_down():
            return False
        self.shared.loop.end()
        return True

    def close(self) -> None:
        """Give back the loop's descriptors. From any thread, after the end."""
        if hasattr(self.shared, "loop"):
            close(self.shared.loop)

    # Requests.

    def execute(self, message: Message) -> Response | Later:
        """Begin the request; an exception is logged with its traceback and becomes a 500."""
        if not isinstance(message, Request):
            return Response("SERVER_ERROR", NOT_HTTP)
        if (refusal := self._refusal(message)) is not None:
            refusal.worker = self.shared.worker
            return refusal
        exchange = Exchange(self.shared, message)
        exchange.task = task = self.shared.loop.run_eagerly(exchange.run(self.application, self._scope(message)))
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
            logger.warning("worker %s: a WebSocket was refused: %s", self.shared.worker.decode(), describe(request))
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
