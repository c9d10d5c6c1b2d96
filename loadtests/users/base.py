"""Base of all users: one connection each, timed apart from the requests that it carries."""

from __future__ import annotations

import contextlib
from time import perf_counter
from typing import TYPE_CHECKING

import gevent
import httptools

from loadtests.connection import (
    ConnectionClosedError,
    HttpConnection,
    Reply,
    ReplyTooLargeError,
    http_request,
)
from loadtests.measurements import MEASURED, BadStatusError, NoResponseError
from loadtests.options import options_of, target_of
from loadtests.users.gentle import GentleUser

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from locust.env import Environment

    from loadtests.connection import MemcacheConnection

    Check = Callable[[Reply], Exception | None]

RECORDED = {"recorded": True}
"""Context of the requests that are counted here already. Users of other classes are counted by their request events."""
PAUSE_AFTER_REFUSAL_SECONDS = 0.1
"""A refused connect fails in microseconds: without a pause, users would do nothing else."""
BROKEN = (OSError, ConnectionClosedError, httptools.HttpParserError, ReplyTooLargeError)
"""Errors that end a connection, and are counted as a failure rather than raised."""


def successful(reply: Reply) -> Exception | None:
    """The check of every HTTP user: a 2xx or 3xx status."""
    return None if 200 <= reply.status < 400 else BadStatusError(reply.status)


class LabUser(GentleUser):
    """A user with one connection. Subclasses make their request bytes beforehand and say `send`."""

    abstract = True

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.target = target_of(environment)
        self.options = options_of(environment)
        self.keep_alive: bool = self.options.keep_alive
        self.pace: float = self.options.pace
        """Seconds from the beginning of a task to that of the next; 0: `--think` from its end to there instead."""
        self._begin = perf_counter()
        self._due: float | None = None
        """Time at which the task's request is due, at a pace; None once it has been."""
        self._connection: HttpConnection | MemcacheConnection | None = None

    def wait_time(self) -> float:
        """Return the seconds until the next task. At a pace, one that is late begins now, and the pace anew."""
        if not self.pace:
            think: float = self.options.think
            return think
        now = perf_counter()
        self._begin = self._due = max(now, self._begin + self.pace)
        return self._begin - now

    def request(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
        """HTTP request bytes for this user's target."""
        connection = {} if self.keep_alive else {"Connection": "close"}
        return http_request(self.target, method, path, body, {**connection, **(headers or {})})

    def open(self) -> HttpConnection | MemcacheConnection:
        """A new connection of the kind that this user speaks over. Raises OSError."""
        return HttpConnection(self.target, self.options.timeout)

    def send(self, method: str, name: str, request: bytes, check: Check = successful) -> Reply | None:
        """Send `request` and count its outcome as `method` `name`; None when no whole response came."""
        connection = self._connection or self._connect(method, name)
        if connection is None:
            return None
        reply: Reply | None = None
        began = perf_counter()
        try:
            reply = connection.exchange(request)
            error = check(reply)
        except BROKEN as broken:
            error = broken
        except gevent.GreenletExit:
            self._no_response(method, name)
            raise
        seconds = perf_counter() - began
        if reply is None or not (reply.keep_alive and self.keep_alive):
            self.disconnect()
        if self.pace:
            due, self._due = self._due, None
            late = began - due if due is not None else 0.0  # connecting counts: the request waited for it
            MEASURED.paced(self.target.model, method, name, seconds + late, self.pace)
        self._record(method, name, seconds, reply, error)
        return reply

    def lose(self, request: bytes) -> None:
        """Send `request` and hang up without reading: to the server it is a client that vanished."""
        connection = self._connection or self._connect("POST", "lost")
        if connection is not None:
            with contextlib.suppress(OSError):  # lost even earlier than meant
                connection.send(request)
            self.disconnect()

    def disconnect(self) -> None:
        """Close the connection; the next `send` makes a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def on_stop(self) -> None:
        """Locust stops this user."""
        self.disconnect()

    def _connect(self, method: str, name: str) -> HttpConnection | MemcacheConnection | None:
        began = perf_counter()
        row = self.environment.stats.get("connect", "CONNECT")
        try:
            self._connection = self.open()
        except OSError as error:
            MEASURED.connect_failed(self.target.model, error)
            self.environment.stats.log_error("CONNECT", "connect", error)
            gevent.sleep(PAUSE_AFTER_REFUSAL_SECONDS)
            return None
        except gevent.GreenletExit:
            self._no_response(method, name)
            raise
        seconds = perf_counter() - began
        MEASURED.connected(self.target.model, seconds)
        # A row of its own in Locust's table; not through the request event, which would also add it to
        # the total and make every new connection look like a second request.
        row.log(seconds * 1000, 0)
        return self._connection

    def _no_response(self, method: str, name: str) -> None:
        """Count the request that this user waits for. Called when Locust's patience is over, and it kills the user."""
        MEASURED.unanswered(self.target.model)
        self.environment.stats.log_error(method, name, NoResponseError("no response at the end of the run"))

    def _record(self, method: str, name: str, seconds: float, reply: Reply | None, error: Exception | None) -> None:
        MEASURED.responded(self.target.model, method, name, seconds, error)
        self.environment.events.request.fire(
            request_type=method,
            name=name,
            response_time=seconds * 1000,
            response_length=len(reply.body) if reply else 0,
            response=reply,
            context=RECORDED,
            exception=error,
        )
