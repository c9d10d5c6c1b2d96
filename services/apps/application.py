"""The application: one for all models. A message comes in, a response goes out, and nothing is raised.

The routes are the table in `_routes`. Every response names the worker that made it, so that where
requests are handed off, the client sees who executed its own.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from services.apps.counters import CounterRoutes
from services.apps.failure import INTERNAL_ERROR, describe
from services.apps.idempotency import Upsert, make_strategy, retry_after
from services.apps.kv_store import KeyValueRoutes
from services.apps.memcache_commands import MemcacheCommands, unavailable_reply
from services.apps.parameters import BadRequestError
from services.apps.router import Route, Router
from services.apps.store import CountersFullError, StoreUnavailableError
from services.apps.streams import send_stream, take_sink
from services.apps.work import do_work
from services.messages import Command, Message, Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from services.apps.store import Store

logger = logging.getLogger("services")


@dataclass(frozen=True, slots=True)
class Identity:
    """Names that responses carry. `worker` is "main", "0", …; the process id is read when asked: a fork changes it."""

    model: str
    worker: str


class Application:
    """The routes and commands of one worker; `execute` is a `Handler` (services/messages.py).

    Called by that worker only. A bound method, as its routes are: an object with `__call__` costs twice as much.
    """

    def __init__(
        self,
        identity: Identity,
        store: Store,
        options: Mapping[str, Any],
        outcome: Callable[[str], None],
        healthy: Callable[[], bool],
    ) -> None:
        self._worker = identity.worker.encode()
        self._outcome = outcome
        self._command = MemcacheCommands(store)
        strategy = make_strategy(options.get("idempotency", "idempotency-key"), store, outcome, options)
        counters = CounterRoutes(store, strategy, Upsert(store, outcome, float(options.get("key_ttl", 86400.0))))
        self._respond = Router(_routes(_FrontPage(identity), KeyValueRoutes(store), counters, _Health(healthy))).respond

    def execute(self, message: Message) -> Response:
        """Execute a message; an error of our own is logged with its traceback and becomes a 500."""
        try:
            response = self._command(message) if isinstance(message, Command) else self._respond(message)
        except BadRequestError as error:
            response = Response("400", f"{error}\n".encode())
        except StoreUnavailableError as error:
            self._outcome("unavailable")
            response = _unavailable(message, error)
        except Exception:
            logger.exception("worker %s failed on %r", self._worker.decode(), describe(message))
            response = _failure(message)
        response.worker = self._worker
        return response


def _routes(
    front_page: _FrontPage, items: KeyValueRoutes, counters: CounterRoutes, health: _Health
) -> tuple[Route, ...]:
    return (
        Route("GET", "/", front_page.get),
        Route("GET", "/kv/{key}", items.get),
        Route("PUT", "/kv/{key}", items.put),
        Route("DELETE", "/kv/{key}", items.delete),
        Route("GET", "/counters/{name}", counters.get),
        Route("POST", "/counters/{name}", counters.post),
        Route("PUT", "/counters/{name}/increments/{id}", counters.put_increment),
        Route("GET", "/work", do_work),
        Route("GET", "/stream", send_stream),
        Route("POST", "/sink", take_sink),
        Route("GET", "/healthz", health.get),
    )


class _FrontPage:
    """GET /: model, worker, pid. Made once a process, for it is what a benchmark asks for."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._make()
        os.register_at_fork(after_in_child=self._make)

    def _make(self) -> None:
        text = f"model: {self._identity.model}\nworker: {self._identity.worker}\npid: {os.getpid()}\n"
        self._page = Response("200", text.encode())

    def get(self, _request: Request) -> Response:
        return self._page


class _Health:
    """GET /healthz: 200 while the server can do its work, 503 when a part of it has died."""

    def __init__(self, healthy: Callable[[], bool]) -> None:
        self._healthy = healthy

    def get(self, _request: Request) -> Response:
        return Response("200", b"ok\n") if self._healthy() else Response("503", b"failing\n")


def _unavailable(message: Message, error: StoreUnavailableError) -> Response:
    if isinstance(message, Command):
        return unavailable_reply(error)
    if isinstance(error, CountersFullError):
        return Response("507", f"{error}\n".encode())
    return Response("503", f"{error}; try again\n".encode(), headers=retry_after(error.retry_after_seconds))


def _failure(message: Message) -> Response:
    if isinstance(message, Command):
        return Response("SERVER_ERROR", b"SERVER_ERROR internal error\r\n")
    return Response("500", INTERNAL_ERROR)
