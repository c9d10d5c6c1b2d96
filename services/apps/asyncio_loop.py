"""The asyncio loop of an ASGI application, in the thread of a server's loop and run by that.

asyncio wants to own its thread: `run_forever` waits in the loop's own epoll. A thread for it would make two of what
each model shows as one: `time.sleep` in a coroutine would then hold up the application and not the server. So this loop
never waits. The server's loop runs it (`run_ready`) once an iteration if anything is ready, and wakes for it:

- at its next timer (`wait_seconds`), or at once while callbacks are ready;
- when a descriptor of its is ready. An epoll is a descriptor itself, readable while one in its set is ready, so the
  server's epoll has asyncio's in its own set. `call_soon_threadsafe` writes to a socket pair in there, so that it wakes
  the server's loop without knowing of it.

To everybody else the loop seems to run from `begin` to `end`: `asyncio.get_running_loop` returns it, and coroutines may
be run from anywhere in this thread. Since Python 3.13, asyncio has a method for that (`_run_forever_setup`, for loops
of graphical interfaces); `begin` does the same for versions without it. `_run_once`, `_ready`, `_scheduled`,
`_stopping` and `_thread_id` are private, and the same from Python 3.11 to 3.14; tests hold that they do what they are
used for.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from asyncio.base_events import _run_until_complete_cb  # type: ignore[attr-defined]
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

MAX_LAST_PASSES = 100
"""Of a loop that ends: cancelled tasks have so many to do what they do last."""


class AsyncioLoop(asyncio.SelectorEventLoop):
    """A loop that another one runs. All but `call_soon_threadsafe` and `close` is for its own thread."""

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _selector: Any
    _run_once: Callable[[], None]

    def begin(self) -> None:
        """Count as running from now on, in this thread. A loop that did before does no more."""
        self._thread_id: int | None = threading.get_ident()
        sys.set_asyncgen_hooks(firstiter=self._asyncgen_firstiter_hook, finalizer=self._asyncgen_finalizer_hook)  # type: ignore[attr-defined]
        asyncio._set_running_loop(self)
        self._stopping = True  # `_run_once` then only looks, and does not wait
        # anyio's threads live as long as the task that `run_until_complete` runs, which it knows by this callback; if
        # there is none, as long as one request.
        self._root = self.create_task(forever(self))
        self._root.add_done_callback(_run_until_complete_cb)

    def end(self) -> None:
        """Cancel all tasks, let them end, and count as running no more."""
        for task in asyncio.all_tasks(self):
            task.cancel()
        for _ in range(MAX_LAST_PASSES):
            if not self._ready:
                break
            self._run_once()
        self._thread_id = None
        self._stopping = False
        sys.set_asyncgen_hooks(None, None)
        asyncio._set_running_loop(None)

    # Called by the server's loop.

    def fileno(self) -> int:
        """Return the descriptor of its epoll."""
        return int(self._selector.fileno())

    def ready(self, events: int) -> None:  # noqa: ARG002
        """Run once: a descriptor is ready."""
        self._run_once()

    def run_ready(self) -> None:
        """Run once if a callback is ready or a timer due. Callbacks that these add are for the next time."""
        if self._ready or (self._scheduled and self._scheduled[0].when() <= self.time()):
            self._run_once()

    def wait_seconds(self) -> float | None:
        """Return for how long it needs not be run; None: until a descriptor is ready."""
        if self._ready:
            return 0.0
        if not self._scheduled:
            return None
        return max(0.0, self._scheduled[0].when() - self.time())

    # Called by whoever runs coroutines.

    if sys.version_info >= (3, 12):

        def run_eagerly(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
            """Make a task of it, and run that at once up to where it first awaits. Not from inside another task."""
            return asyncio.Task(coroutine, loop=self, eager_start=True)

    else:

        def run_eagerly(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
            """Make a task of it, and run that at once up to where it first awaits. Not from inside another task."""
            task = asyncio.Task(coroutine, loop=self)
            self._ready.pop()._run()  # its first step, which it has just queued
            return task


async def forever(loop: AsyncioLoop) -> None:
    """Await the loop's end."""
    await loop.create_future()


def close(loop: AsyncioLoop) -> None:
    """Give back its descriptors, once it has ended. From any thread."""
    loop._thread_id = None
    with contextlib.suppress(RuntimeError):
        loop.close()
