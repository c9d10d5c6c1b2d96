"""The event loop: one thread, one epoll, and everything it watches.

Level-triggered: a socket with bytes left is reported again, so no handler has to read until EAGAIN.
(Edge-triggered saves nothing here: one `recv` usually takes the whole request, and the second one,
which only finds EAGAIN, would cost every request a system call.)
"""

from __future__ import annotations

import contextlib
import heapq
import os
import select
import time
from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import TYPE_CHECKING

from services.messages import Handler, Protocol
from services.metrics import slots

if TYPE_CHECKING:
    from services.metrics.stages import Sampler
    from services.net.connection import Connection, Job

TICK_NS = 1_000_000_000
POLL_SECONDS = 1.0
DRAIN_POLL_SECONDS = 0.05
COUNT_NS = 50_000_000
"""A loop that finds no rest shows what it has counted this often."""
LAST_WORD_NS = 100_000_000
"""A draining loop gives a silent connection this long: its request may be on the way."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what a peer may take, in seconds and connections."""

    header_timeout: float
    body_timeout: float
    idle_timeout: float
    write_timeout: float
    drain: float
    max_connections: int


class Source(ABC):
    """Anything that epoll can report: a connection, a listener, a channel."""

    __slots__ = ()

    @abstractmethod
    def ready(self, events: int) -> None:
        """One of the events that were asked for holds, or a hang-up or an error."""

    def ready_timed(self, events: int) -> None:
        """As `ready`, and time what comes, where there is something to time."""
        self.ready(events)


class EventLoop:
    """Waits, calls whoever is ready, and keeps time. Everything but `wake` is for its own thread."""

    def __init__(
        self,
        block: slots.Block,
        sampler: Sampler,
        handle: Handler,
        choose: Callable[[bytes], Protocol],
        limits: Limits,
        every_second: Callable[[float], None],
        open_everywhere: Callable[[], int],
        *,
        watched: bool = True,
    ) -> None:
        self.block = block
        self.sampler = sampler
        self.handle = handle
        self.choose = choose
        self.limits = limits
        self.timeouts_ns = {
            "idle": int(limits.idle_timeout * 1e9),
            "head": int(limits.header_timeout * 1e9),
            "body": int(limits.body_timeout * 1e9),
            "write": int(limits.write_timeout * 1e9),
        }
        self._idle_ns = self.timeouts_ns["idle"]
        self.open_everywhere = open_everywhere
        self.codes: defaultdict[str, int] | None = defaultdict(int) if watched else None
        self.submitted = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.now_ns = time.monotonic_ns()
        self.idle_deadline_ns = 0
        self._requests = 0
        self._busy_since_ns = 0
        self.accepted: deque[Connection] = deque()
        self.connections: set[Connection] = set()
        self.before_poll: list[Callable[[], None]] = []
        """Called once a turn."""
        self.before_rest: list[Callable[[], None]] = []
        """Called when nothing has happened, before the loop waits until something does."""
        self.after_poll: list[Callable[[list[tuple[int, int]]], None]] = []
        """Called with what epoll has reported, before any of it is handled."""
        self.at_drain: list[Callable[[], object]] = []
        """Called when a drain begins; what returns False is called again until it does not, or time is up."""
        self._unfinished: list[Callable[[], object]] = []
        self.withdraw: Callable[[Job], None] = lambda _job: None
        """Called when a connection closes whose request is with somebody else."""
        self.poll_seconds = POLL_SECONDS
        self.draining = False
        self.drained_by_ns = 0
        self._stopped = False
        self._every_second = every_second
        self._epoll = select.epoll()
        self._sources: dict[int, Source] = {}
        self._timers: list[tuple[int, int, Callable[[], None]]] = []
        self._timer_numbers = count()
        self._next_tick_ns = 0
        self._drain_ordered = False
        self._wakeup = Wakeup()
        self.watch(self._wakeup.fd, self._wakeup)

    # What the models call.

    def accepting(self) -> Iterator[Connection]:
        """Run; yield each connection that an acceptor took off a queue. Ends when drained."""
        while self.turn():
            while self.accepted:
                yield self.accepted.popleft()

    def serve(self, connection: Connection, execute: Callable[..., None] | None = None) -> None:
        """Own `connection` from now on: read, parse, execute (or have executed), write."""
        self.connections.add(connection)
        self.block[slots.OPEN] += 1
        connection.begin(self, execute)

    def run(self) -> None:
        """Run until drained."""
        while self.turn():
            pass

    # One turn.

    def turn(self) -> bool:
        """Wait for events once, and handle them. False when everything is drained."""
        for prepare in self.before_poll:
            prepare()
        events = self._epoll.poll(0)
        if not events:
            for prepare in self.before_rest:
                prepare()
            self._count(time.monotonic_ns())
            self.block[slots.BUSY_SINCE] = 0
            events = self._epoll.poll(self._poll_seconds())
            self._busy_since_ns = 0
        self.now_ns = began = time.monotonic_ns()
        self.idle_deadline_ns = began + self._idle_ns
        if not self._busy_since_ns:
            self.block[slots.BUSY_SINCE] = self._busy_since_ns = began
        elif began - self._busy_since_ns > COUNT_NS:
            self._count(began)
        self._handle_all(events)
        if self._timers:
            self._run_timers()
        if began >= self._next_tick_ns:
            self._tick()
        if self._drain_ordered:
            self._drain()
        if self._stopped:
            self._count(time.monotonic_ns())
            self.block[slots.BUSY_SINCE] = 0
        return not self._stopped

    def _handle_all(self, events: list[tuple[int, int]]) -> None:
        for act in self.after_poll:
            act(events)
        if self.sampler.gap > len(events):
            self.sampler.gap -= len(events)
            self._handle(events)
        else:
            self._handle_timed(events)

    def _handle(self, events: Iterable[tuple[int, int]]) -> None:
        sources = self._sources
        for fd, mask in events:
            # A source may have been closed by one that came before it in this list.
            source = sources.get(fd)
            if source is not None:
                source.ready(mask)

    def _handle_timed(self, events: list[tuple[int, int]]) -> None:
        """The gap between two samples ends among these events. Decided here, it costs the others nothing."""
        sampler = self.sampler
        left, following = len(events), iter(events)
        while left > sampler.gap:
            left -= sampler.gap + 1
            self._handle(islice(following, sampler.gap))
            fd, mask = next(following)
            sampler.gap = 0  # the next one is due, unless this one turns out to be a request: `take_sample`
            source = self._sources.get(fd)
            if source is not None:
                source.ready_timed(mask)
        self._handle(following)
        sampler.gap -= left

    def take_sample(self) -> int:
        """How many requests the one that is now timed stands for: all since the last sample."""
        pending = sum(self.codes.values()) if self.codes else 0
        return self.sampler.take(self._requests + pending + self.submitted + 1)

    def _poll_seconds(self) -> float:
        if self.accepted:
            return 0.0
        longest = DRAIN_POLL_SECONDS if self._drain_ordered else self.poll_seconds
        if not self._timers:
            return longest
        return min(longest, max(0.0, (self._timers[0][0] - time.monotonic_ns()) / 1e9))

    def _count(self, now: int) -> None:
        """Bring what was counted into shared memory: before every rest, and now and then without one.

        A slot costs more than an int. Done every turn, it cost a busy loop a tenth of the connections that it
        could accept.
        """
        if self.codes is None:
            return
        self.sampler.count()
        block = self.block
        if self.bytes_in or self.bytes_out:
            block[slots.BYTES["in"]] += self.bytes_in
            block[slots.BYTES["out"]] += self.bytes_out
            self.bytes_in = self.bytes_out = 0
            for code, number in self.codes.items():
                block[slots.REQUESTS[code]] += number
                self._requests += number
            self.codes.clear()
        if self._busy_since_ns:
            since, self._busy_since_ns = self._busy_since_ns, now
            # In this order: whoever reads in between misses some time, which comes back; the other way round it would
            # see the same time twice.
            block[slots.BUSY_SINCE] = now
            block[slots.BUSY_NS] += now - since

    # What sources call.

    def watch(self, fd: int, source: Source, events: int = select.EPOLLIN) -> None:
        """Call `source.ready` whenever one of `events` holds for `fd`."""
        self._sources[fd] = source
        self._epoll.register(fd, events)

    def change(self, fd: int, events: int) -> None:
        """Watch `fd` for other events; 0 leaves only errors and hang-ups."""
        self._epoll.modify(fd, events)

    def mute(self, fd: int) -> None:
        """Hear nothing of `fd` until `unmute`."""
        with contextlib.suppress(FileNotFoundError):
            self._epoll.unregister(fd)

    def unmute(self, fd: int, events: int) -> None:
        """Hear of `fd` again. It goes to the end of its wait queue."""
        with contextlib.suppress(FileExistsError):
            self._epoll.register(fd, events)

    def forget(self, fd: int) -> None:
        """Watch `fd` no more; call it before closing."""
        del self._sources[fd]
        self.mute(fd)

    def disown(self, connection: Connection, fd: int, reason: str) -> None:
        """Called by a connection that closes. Closing takes its descriptor out of epoll by itself."""
        del self._sources[fd]
        self.connections.discard(connection)
        self.block[slots.OPEN] -= 1
        self.block[slots.CLOSED[reason]] += 1

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call `callback` once, `seconds` from now."""
        due = time.monotonic_ns() + int(seconds * 1e9)
        heapq.heappush(self._timers, (due, next(self._timer_numbers), callback))

    def wake(self) -> None:
        """End the present wait. May be called from any thread and from a signal handler."""
        self._wakeup.wake()

    # Time.

    def _run_timers(self) -> None:
        while self._timers and self._timers[0][0] <= self.now_ns:
            heapq.heappop(self._timers)[2]()

    def _tick(self) -> None:
        """Once a second: dates, sampling rates, and connections that have run out of time."""
        self._next_tick_ns = self.now_ns + TICK_NS
        self._every_second(time.time())
        self.sampler.tick(self._requests + self.submitted, self.now_ns)
        now = self.now_ns
        for connection in [c for c in self.connections if c.deadline_ns <= now]:
            connection.timed_out()

    # The end.

    def order_drain(self) -> None:
        """Finish: accept what is queued, answer what is asked, then stop. From any thread or signal handler."""
        self._drain_ordered = True
        self.wake()

    def _drain(self) -> None:
        if not self.draining:
            self.draining = True
            self.block[slots.STATE] = slots.DRAINING
            self.drained_by_ns = self.now_ns + int(self.limits.drain * 1e9)
            self._unfinished = self.at_drain
        self._unfinished = [finish for finish in self._unfinished if finish() is False]
        if self.accepted:
            return
        for connection in [c for c in self.connections if c.is_silent(self.now_ns - LAST_WORD_NS)]:
            connection.close("drain")
        if self.now_ns >= self.drained_by_ns:
            self._unfinished = []
            for connection in list(self.connections):
                connection.close("drain")
        if not self.connections and not self._unfinished:
            self._stopped = True

    def close(self) -> None:
        """Give back the loop's own descriptors. From any thread, once it has ended for good."""
        for source in self._sources.values():
            if isinstance(source, Wakeup):
                os.close(source.fd)
        self._sources.clear()
        self._epoll.close()


class Wakeup(Source):
    """An eventfd: how another thread, or a signal handler, ends a loop's wait."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._rung = False

    def wake(self) -> None:
        """End the loop's wait, now or when it next begins. From any thread or signal handler."""
        if not self._rung:  # many wakes before one turn cost one system call
            self._rung = True
            os.eventfd_write(self.fd, 1)

    def ready(self, events: int) -> None:  # noqa: ARG002
        """Called by the loop."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.fd)
        # Lowered after the read and before anything is looked at: whoever adds work from now on rings
        # again, and what was added before is about to be seen.
        self._rung = False
