"""The event loop: one thread, one epoll, and everything that it watches. A reactor and no more: it knows no connection.

What epoll is. A set of descriptors kept in the kernel (`register`, `modify`, `unregister`), and one system call
(`poll`) that sleeps until one of them is ready and then returns the ready ones: its cost grows with what is ready,
not with what is watched, so 10,000 idle connections cost an iteration nothing (`select` and `poll` hand the whole
set over at each call). epoll says *ready*, never *done*: the loop still makes the `recv` or `accept` itself, and
makes it non-blocking, for what was ready may be gone again.

Its traps, and what is done about each here:

- Level or edge. Level-triggered, as here, a socket with bytes left is reported again, so no handler has to read
  until EAGAIN. Edge-triggered saves nothing: one `recv` usually takes the whole request, and the second one, which
  only finds EAGAIN, would cost every request a system call. But a level that nobody lowers makes the loop spin: a
  listener that cannot be accepted from (EMFILE) must be paused, not ignored.
- An error or a hang-up (EPOLLERR, EPOLLHUP) is reported whatever was asked for. A socket that is waited on for
  nothing (`change(fd, 0)`) still says when its peer is gone.
- A closed descriptor leaves the set by itself only when the last copy of it is closed. A fork copies every descriptor,
  so a child closes all that are not its own (workers/fork.py), or a dead connection would be reported for ever.
- Descriptor numbers are used again at once. In one list of events, an early handler may close the descriptor of a
  late one, and another may open a new one with the same number: so a handler is looked up by number just before
  it is called, and what is not found is passed over.
- Who wakes, where several loops watch one listener, is a matter of its own: net/acceptor.py.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import select
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import count

Callback = Callable[[], None]


class Source(ABC):
    """Anything that epoll can report: a connection, a listener, a channel."""

    __slots__ = ()

    @abstractmethod
    def ready(self, events: int) -> None:
        """Handle that one of the events asked for holds, or a hang-up or an error. Called by the loop."""


class EventLoop:
    """Waits, calls the sources that are ready, and keeps time. Everything but `wake` is for its own thread."""

    def __init__(self) -> None:
        self.now_ns = time.monotonic_ns()
        """Start of the present iteration; CLOCK_MONOTONIC."""
        self.longest_wait_seconds: float | None = None
        """No wait takes longer; None: timers alone bound it."""
        self.before_poll: list[Callback] = []
        """Called once an iteration."""
        self.before_wait: list[Callback] = []
        """Called when nothing has happened, before the loop waits until something does."""
        self.wait_limits: list[Callable[[], float | None]] = []
        """Each returns for how many seconds the wait that begins may last; None: without a limit."""
        self.at_close: list[Callback] = []
        """Called when the loop's descriptors are closed."""
        self.after_poll: list[Callable[[list[tuple[int, int]]], None]] = []
        """Called with what epoll has reported, before any of it is handled."""
        self._epoll = select.epoll()
        self._sources: dict[int, Source] = {}
        self._timers: list[tuple[int, int, Callback]] = []
        self._timer_numbers = count()
        self._wakeup = Wakeup()
        self.watch(self._wakeup.fd, self._wakeup)

    def iteration(self) -> None:
        """Wait for events once, and handle them; then run the timers that are due."""
        for prepare in self.before_poll:
            prepare()
        # Asked first without waiting: under load there is nearly always something, and `before_wait` can be left out.
        events = self._epoll.poll(0)
        if not events:
            for prepare in self.before_wait:
                prepare()
            events = self._epoll.poll(self._wait_seconds())
        self.now_ns = time.monotonic_ns()
        for inspect in self.after_poll:
            inspect(events)
        self.call_ready(events)
        while self._timers and self._timers[0][0] <= self.now_ns:
            heapq.heappop(self._timers)[2]()

    def call_ready(self, events: list[tuple[int, int]]) -> None:
        """Call the sources of these events, in their order."""
        sources = self._sources
        for fd, mask in events:
            source = sources.get(fd)
            if source is not None:
                source.ready(mask)

    def _wait_seconds(self) -> float | None:
        seconds = self._until_timer()
        for limit in self.wait_limits:
            most = limit()
            if most is not None and (seconds is None or most < seconds):
                seconds = most
        return seconds

    def _until_timer(self) -> float | None:
        if not self._timers:
            return self.longest_wait_seconds
        until_timer = max(0.0, (self._timers[0][0] - time.monotonic_ns()) / 1e9)
        return until_timer if self.longest_wait_seconds is None else min(until_timer, self.longest_wait_seconds)

    def watch(self, fd: int, source: Source, events: int = select.EPOLLIN) -> None:
        """Call `source.ready` whenever one of `events` holds for `fd`."""
        self._sources[fd] = source
        self._epoll.register(fd, events)

    def change(self, fd: int, events: int) -> None:
        """Watch `fd` for other events; 0 leaves only errors and hang-ups."""
        self._epoll.modify(fd, events)

    def pause(self, fd: int) -> None:
        """Report nothing of `fd` until `resume`."""
        with contextlib.suppress(FileNotFoundError):
            self._epoll.unregister(fd)

    def resume(self, fd: int, events: int) -> None:
        """Report `fd` again. It goes to the end of its wait queue."""
        with contextlib.suppress(FileExistsError):
            self._epoll.register(fd, events)

    def forget(self, fd: int) -> None:
        """Watch `fd` no more; to be called before it is closed."""
        del self._sources[fd]
        self.pause(fd)

    def call_later(self, seconds: float, callback: Callback) -> None:
        """Call `callback` once, `seconds` from now."""
        due = time.monotonic_ns() + int(seconds * 1e9)
        heapq.heappush(self._timers, (due, next(self._timer_numbers), callback))

    def wake(self) -> None:
        """End the present wait. From any thread or signal handler."""
        self._wakeup.wake()

    def close(self) -> None:
        """Close the loop's own descriptors, and those of its wake-ups. From any thread, once it has ended for good."""
        for source in self._sources.values():
            if isinstance(source, Wakeup):
                os.close(source.fd)
        for close in self.at_close:
            close()
        self._sources.clear()
        self._epoll.close()


class Wakeup(Source):
    """An eventfd: how another thread, or a signal handler, ends a loop's wait."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._is_set = False

    def wake(self) -> None:
        """End the loop's wait, now or when it next begins. From any thread or signal handler."""
        if not self._is_set:  # many wakes before one iteration cost one system call
            self._is_set = True
            os.eventfd_write(self.fd, 1)

    def ready(self, events: int) -> None:  # noqa: ARG002
        """Called by the loop."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.fd)
        # Cleared after the read and before anything is looked at: whoever adds work from now on wakes the loop again,
        # and what was added before is about to be seen.
        self._is_set = False
