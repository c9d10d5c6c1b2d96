"""ASGI's lifespan: an application's start and end in each worker."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from services.apps.asgi_events import VERSIONS, AsgiApplication, Event
from services.apps.loading import LoadError

logger = logging.getLogger("services")


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
