"""The loop of a server: the reactor, and the connections that it serves, their limits, their counts, and the drain."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast
from typing import Protocol as Interface

from services.messages import Choose, Handler
from services.metrics import slots
from services.net.connection import Connection, Owner
from services.net.job import Execute, Job

if TYPE_CHECKING:
    from services.metrics.sampling import Sampler
    from services.net.event_loop import Source

TICK_SECONDS = 1.0
DRAIN_POLL_SECONDS = 0.05
COUNT_NS = 50_000_000
"""A loop that never waits publishes its counts this often."""
BATCH = 32
"""Connections that are read before the first of them is responded to, at the most."""
LAST_REQUEST_NS = 100_000_000
"""A draining loop gives an idle connection this long: its request may be on the way."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what a peer may take, in seconds and connections."""

    header_timeout: float
    body_timeout: float
    idle_timeout: float
    write_timeout: float
    drain: float
    max_connections: int


class Guest(Interface):
    """A loop inside the server's: an application's own, which runs in the same thread and never waits by itself."""

    def fileno(self) -> int:
        """Return the descriptor that is readable when one of the guest's is ready: its epoll."""

    def ready(self, events: int) -> None:
        """Handle that. Called by the loop, as a `Source` is."""

    def run_ready(self) -> None:
        """Run what can be run now, if anything can. Called once an iteration."""

    def wait_seconds(self) -> float | None:
        """Return for how long the loop may wait: until the next timer, not at all, or (None) for ever."""


class ServerLoop(Owner):
    """An event loop that owns connections. Everything but `wake` and `order_drain` is for its own thread."""

    def __init__(
        self,
        block: slots.Block,
        sampler: Sampler,
        handle: Handler,
        choose: Choose,
        limits: Limits,
        every_second: Callable[[float], None],
        open_everywhere: Callable[[], int],
    ) -> None:
        """`handle` is the application, `choose` gives a connection its protocol by the first bytes.

        `every_second(epoch_seconds)` is called about once a second; `open_everywhere()` counts the open connections
        of all loops of this server, for `limits.max_connections`.
        """
        super().__init__()
        self.block = block
        self.sampler = sampler
        self.handle = handle
        self.choose = choose
        self.limits = limits
        self.timeouts_ns = {
            "idle": int(limits.idle_timeout * 1e9),
            "head": int(limits.header_timeout * 1e9),
            "body": int(limits.body_timeout * 1e9),
            "writing": int(limits.write_timeout * 1e9),
        }
        self.idle_deadline_ns = self.now_ns + self.timeouts_ns["idle"]
        self.open_everywhere = open_everywhere
        self.codes: defaultdict[str, int] = defaultdict(int)
        self.submitted = self.bytes_in = self.bytes_out = 0
        self.received: list[tuple[Connection, bytes]] = []
        self.accepted: deque[Connection] = deque()
        self.connections: set[Connection] = set()
        self.at_drain: list[Callable[[], object]] = []
        """Called when a drain begins; what returns False is called again until it does not, or time is up."""
        self.at_start: list[Callable[[], object]] = []
        """Called by `start`."""
        self.at_end: list[Callable[[], object]] = []
        """As `at_drain`, when a drain has closed the last connection."""
        self.guest: Guest | None = None
        self.withdraw: Callable[[Job], None] = lambda _job: None
        """Called when a connection closes whose request is with a worker."""
        self.draining = False
        self.drained_by_ns = 0
        self._every_second = every_second
        self._requests = 0
        self._busy_since_ns = 0
        self._drain_ordered = self._drained = False
        self._unfinished: list[Callable[[], object]] = []
        self.after_poll.append(self._begin_iteration)
        self.before_wait.append(self._begin_wait)
        self._tick()

    # Called by main and workers, on the loop's own thread.

    def start(self) -> None:
        """Begin what serves in this loop besides connections."""
        for start in self.at_start:
            start()

    def host(self, guest: Guest) -> None:
        """Run a guest's loop inside this one. Called once the guest has begun."""
        self.guest = guest
        self.before_poll.append(guest.run_ready)
        self.wait_limits.append(guest.wait_seconds)
        self.watch(guest.fileno(), cast("Source", guest))

    # Called by models.

    def accepting(self) -> Iterator[Connection]:
        """Run; yield each connection that an acceptor took off a queue. Ends when drained."""
        while self.run_once():
            while self.accepted:
                yield self.accepted.popleft()

    def serve(self, connection: Connection, execute: Execute | None = None) -> None:
        """Own `connection` from now on: read, parse, execute (or have executed), write."""
        self.connections.add(connection)
        self.block[slots.OPEN] += 1
        connection.begin(self, execute)

    def run(self) -> None:
        """Run until drained."""
        while self.run_once():
            pass

    def run_once(self) -> bool:
        """Run one iteration; return False when drained."""
        self.iteration()
        if self._drain_ordered:
            self._drain()
        return not self._drained

    def call_ready(self, events: list[tuple[int, int]]) -> None:
        """Call the sources of these events; connections only read then, and `take_up` does the rest, BATCH at a time.

        Reading them one after the other, then parsing what all have sent, takes a third less of a busy server's time
        than going through with each: code that runs again at once finds its instructions in the processor's caches
        and its branches predicted, and after a system call neither is so. Nobody waits for another's execution because
        of it: each response is sent before the next request is executed.
        """
        for start in range(0, len(events), BATCH):
            super().call_ready(events[start : start + BATCH])
            self.take_up()

    # Called by connections.

    def take_up(self) -> None:
        """Go on with all that connections have read: parse everything first, then execute."""
        received, self.received = self.received, []
        for connection, data in received:
            connection.parse(data)
        for connection, _ in received:
            connection.advance()

    def release(self, connection: Connection, fd: int, reason: str) -> None:
        """Forget a connection that closes. Closing takes its descriptor out of epoll by itself."""
        del self._sources[fd]
        self.connections.discard(connection)
        self.block[slots.OPEN] -= 1
        self.block[slots.CLOSED[reason]] += 1

    def take_sample(self) -> int:
        """Return how many requests the one that is now timed stands for: all since the last sample.

        Parts of a reply (code "") are no requests, and must not count here: this total may never fall.
        """
        pending = sum(self.codes.values()) - self.codes.get("", 0)
        return self.sampler.take(self._requests + pending + self.submitted + 1)

    # Counts.

    def _begin_iteration(self, _events: object) -> None:
        now = self.now_ns
        self.idle_deadline_ns = now + self.timeouts_ns["idle"]
        if not self._busy_since_ns:
            self.block[slots.BUSY_SINCE] = self._busy_since_ns = now
        elif now - self._busy_since_ns > COUNT_NS:
            self._publish(now)

    def _begin_wait(self) -> None:
        self._publish(time.monotonic_ns())
        self.block[slots.BUSY_SINCE] = self._busy_since_ns = 0

    def _publish(self, now: int) -> None:
        """Bring what was counted into shared memory: before every wait, and now and then without one.

        A slot costs more than an int. Done every iteration, it cost a busy loop a tenth of the connections that it
        could accept.
        """
        self.sampler.publish()
        block = self.block
        if self.bytes_in or self.bytes_out:
            block[slots.BYTES["in"]] += self.bytes_in
            block[slots.BYTES["out"]] += self.bytes_out
            self.bytes_in = self.bytes_out = 0
            self.codes.pop("", None)  # a part of a reply
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

    def _tick(self) -> None:
        """Once a second: dates, sampling rates, and connections that have run out of time."""
        self.call_later(TICK_SECONDS, self._tick)
        self._every_second(time.time())
        self.sampler.tick(self._requests + self.submitted, self.now_ns)
        now = self.now_ns
        for connection in [c for c in self.connections if c.deadline_ns <= now]:
            connection.timed_out()

    # The end.

    def order_drain(self) -> None:
        """Finish: accept what is queued, respond to what is asked, then stop. From any thread or signal handler."""
        self._drain_ordered = True
        self.wake()

    def _drain(self) -> None:
        if not self.draining:
            self.draining = True
            self.longest_wait_seconds = DRAIN_POLL_SECONDS
            self.block[slots.STATE] = slots.DRAINING
            self.drained_by_ns = self.now_ns + int(self.limits.drain * 1e9)
            self._unfinished = self.at_drain
        self._unfinished = [finish for finish in self._unfinished if finish() is False]
        if self.accepted:
            return
        for connection in [c for c in self.connections if c.is_idle_since(self.now_ns - LAST_REQUEST_NS)]:
            connection.expire("drain")
        if self.now_ns >= self.drained_by_ns:
            self._unfinished = []
            for connection in list(self.connections):
                connection.finish("drain", at_once=True)
        if not self.connections and not self._unfinished:
            self._unfinished, self.at_end = self.at_end, []
            self._unfinished = [finish for finish in self._unfinished if finish() is False]
            if not self._unfinished:
                self._drained = True
                self._begin_wait()
