"""A load generator for what Locust cannot show: arrivals that do not wait, connections that differ, microseconds.

    python -m lab.load.generator '{"host": …, "port": …, "streams": [{…}], "seconds": 5}'

runs one plan on one thread and prints what it measured as JSON. A *closed* stream has a number of connections that
each send, wait for the response, think, and send again; so a server that stalls is asked less, which flatters it. An
*open* stream (`rate`) draws arrivals that do not wait for anyone. Its response times count from the moment at which a
request was meant to start, and so are free of coordinated omission; those from the moment at which it was really sent
are kept beside them, so that the difference can be shown.

The generator checks itself: `cpu` is its share of a core while it counts. `littles_law` is L / (λ W): the mean number
of requests in the system, over the rate of answers times their mean. It is 1 for a load that was steady.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import selectors
import socket
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import httptools

from lab.load.plan import Plan, Stream, StreamResult, read_plan
from loadtests.histogram import Histogram

if TYPE_CHECKING:
    pass

MOST_WAITING = 100_000
"""Arrivals of an open stream that may wait for a free connection; further ones are dropped and counted."""
GRACE_SECONDS = 5.0
"""Longest wait, at the end, for responses that are still out."""
SELECT_DESCRIPTORS = 900
"""select() sleeps to the microsecond where epoll rounds up to a millisecond, but takes descriptors below 1,024 only."""
CONNECT_SECONDS = 10.0


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self._parser: Any = None
        self._answer: asyncio.Future[tuple[int, str]] | None = None
        self._transport: asyncio.Transport | None = None
        self._worker = ""
        self.closed = False

    def connection_made(self, transport: Any) -> None:
        """Keep the transport."""
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """A request that is out fails."""
        self.closed = True
        if self._answer and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("closed before it answered"))

    def data_received(self, data: bytes) -> None:
        """Some of a response."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.close()
            if self._answer and not self._answer.done():
                self._answer.set_exception(error)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        if name.lower() == b"x-worker":
            self._worker = value.decode("latin-1")

    def on_message_complete(self) -> None:
        """Called by the parser: that was the last byte."""
        if not self._parser.should_keep_alive():
            self.close()
        if self._answer and not self._answer.done():
            self._answer.set_result((self._parser.get_status_code(), self._worker))

    async def ask(self, request: bytes) -> tuple[int, str]:
        """Send and wait: the status and who answered. Raises OSError or httptools.HttpParserError."""
        if self.closed or self._transport is None:
            raise ConnectionResetError("closed between requests")
        self._parser, self._worker = httptools.HttpResponseParser(self), ""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Close it, without waiting."""
        self.closed = True
        if self._transport:
            self._transport.close()


class Running:
    """One stream under way."""

    def __init__(
        self, plan: Plan, stream: Stream, random_source: random.Random, clock: Clock, first_connect_seconds: float = 0.0
    ) -> None:
        self.result = StreamResult(stream.name, bool(stream.rate))
        self._first_connect_seconds = first_connect_seconds
        self._plan, self._stream, self._random, self._clock = plan, stream, random_source, clock
        self._intended, self._sent, self._connects = Histogram(), Histogram(), Histogram()
        self._sum = self._sum_of_squares = 0.0
        self._waiting: deque[float] = deque()
        self._arrived = asyncio.Event()
        self._all_arrived = False
        """Later than the end, where this process was not given a processor: the last ones are still to be sent."""
        close = "" if stream.keep_alive else "Connection: close\r\n"
        length = "Content-Length: 0\r\n" if stream.method in {"POST", "PUT"} else ""
        self._request = f"{stream.method} {stream.path} HTTP/1.1\r\nHost: lab\r\n{close}{length}\r\n".encode()

    async def run(self) -> None:
        """The whole stream, from its first connect to the last response it waits for."""
        workers = [asyncio.create_task(self._work()) for _ in range(self._stream.connections)]
        arrivals = [asyncio.create_task(self._arrive())] if self._stream.rate else []
        await asyncio.wait(workers, timeout=max(0.0, self._clock.end + GRACE_SECONDS - time.monotonic()))
        for task in (*workers, *arrivals):
            task.cancel()
        for outcome in await asyncio.gather(*workers, *arrivals, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome  # a peer's errors were counted where they came: this is a bug of ours
        self.result.unanswered += sum(self._clock.counts(intended) for intended in self._waiting)

    async def _work(self) -> None:
        connection: Connection | None = None
        try:
            if self._stream.keep_alive:
                connection = await self._connect_ahead()
            if self._stream.rate:
                await self._serve_arrivals(connection)
            else:
                await self._loop(connection)
        finally:
            if connection:
                connection.close()

    async def _connect_ahead(self) -> Connection | None:
        """Before the first request; who is refused now tries again with it."""
        await asyncio.sleep(self._first_connect_seconds)
        try:
            return await self._connect()
        except (OSError, TimeoutError):
            return None

    async def _loop(self, connection: Connection | None) -> None:
        """Closed: send, wait, think."""
        while (now := time.monotonic()) < self._clock.end:
            connection = await self._one(connection, now)
            if self._stream.think_seconds:
                await asyncio.sleep(self._random.expovariate(1 / self._stream.think_seconds))

    async def _serve_arrivals(self, connection: Connection | None) -> None:
        """Open: take the oldest arrival that waits."""
        while self._waiting or not self._all_arrived:
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            connection = await self._one(connection, self._waiting.popleft())

    async def _arrive(self) -> None:
        intended = self._clock.start
        while intended < self._clock.end:
            delay = intended - time.monotonic()
            if delay > 0:
                await asyncio.sleep(delay)
            if len(self._waiting) < MOST_WAITING:
                self._waiting.append(intended)
                self._clock.entered(intended)
            elif self._clock.counts(intended):
                self.result.dropped += 1
            self._arrived.set()
            rate = self._stream.rate
            intended += self._random.expovariate(rate) if self._stream.poisson else 1 / rate
        self._all_arrived = True
        self._arrived.set()

    async def _one(self, connection: Connection | None, intended: float) -> Connection | None:
        """One request, on the connection that there is, or on a new one."""
        if not self._stream.rate:
            self._clock.entered(intended)
        answered = False
        try:
            if connection is None or connection.closed:
                connection = await self._connect()
            sent = time.monotonic()
            status, worker = await connection.ask(self._request)
            answered = True
            self._count(intended, sent, status, worker)
        except (OSError, httptools.HttpParserError, TimeoutError) as error:
            if self._clock.counts(intended):
                self.result.errors[_name_of(error)] += 1
            connection = None
            answered = True
            await asyncio.sleep(0.001)  # a server that refuses all must not make us spin
        finally:
            self._clock.left()
            if not answered and self._clock.counts(intended):
                self.result.unanswered += 1
        return connection if self._stream.keep_alive else None

    def _count(self, intended: float, sent: float, status: int, worker: str) -> None:
        now = time.monotonic()
        self.result.completed += self._clock.counts(now)
        if not self._clock.counts(intended):
            return
        seconds = now - intended
        self._intended.record_seconds(seconds)
        self._sent.record_seconds(now - sent)
        self._sum += seconds
        self._sum_of_squares += seconds * seconds
        self.result.max_seconds = max(self.result.max_seconds, seconds)
        self.result.requests += 1
        self.result.statuses[str(status)] += 1
        self.result.workers[worker] += 1

    async def _connect(self) -> Connection:
        begun = time.monotonic()
        source = (self._stream.source, 0) if self._stream.source else None
        async with asyncio.timeout(CONNECT_SECONDS):
            transport, connection = await asyncio.get_running_loop().create_connection(
                Connection, self._plan.host, self._plan.port, local_addr=source
            )
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connects.record_seconds(time.monotonic() - begun)
        return connection

    def finish(self) -> StreamResult:
        """The figures."""
        result = self.result
        if result.requests:
            result.mean_seconds = self._sum / result.requests
            variance = self._sum_of_squares / result.requests - result.mean_seconds**2
            result.deviation_seconds = max(0.0, variance) ** 0.5
        result.intended, result.sent = self._intended.to_json(), self._sent.to_json()
        result.connect = self._connects.to_json()
        return result


class Clock:
    """Times at which counting begins and ends, and how many requests were in the system meanwhile."""

    def __init__(self, plan: Plan) -> None:
        self.start = time.monotonic()
        self.begin = self.start + plan.warm_up_seconds
        self.end = self.begin + plan.seconds
        self._inside = 0
        self._since = self.begin
        self.area = 0.0
        """∫ requests in the system dt, while it counts."""

    def counts(self, intended: float) -> bool:
        """Return whether a request that was meant to start then belongs to the figures."""
        return self.begin <= intended < self.end

    def entered(self, when: float) -> None:
        """A request came; `when` may lie a little back."""
        self._advance(when)
        self._inside += 1

    def left(self) -> None:
        """A request went."""
        self._advance(time.monotonic())
        self._inside -= 1

    def _advance(self, now: float) -> None:
        now = min(now, self.end)
        if now > self._since:
            self.area += self._inside * (now - self._since)
            self._since = now


async def generate(plan: Plan) -> dict[str, Any]:
    """Run the plan; the document that is printed."""
    clock = Clock(plan)
    running = [
        Running(plan, stream, random.Random(f"{plan.seed}/{stream.name}"), clock, number * plan.connect_gap_seconds)
        for number, stream in enumerate(plan.streams)
    ]
    cpu, *_ = await asyncio.gather(_cpu_while_it_counts(clock), *(stream.run() for stream in running))
    results = [stream.finish() for stream in running]
    return {
        "seconds": plan.seconds,
        "cpu": cpu,
        "littles_law": _littles_law(plan, clock, results),
        "streams": [vars(result) for result in results],
    }


async def _cpu_while_it_counts(clock: Clock) -> float:
    """Our share of a core; neither the warm-up nor a long wait for a last answer makes it look smaller."""
    await asyncio.sleep(clock.begin - time.monotonic())
    cpu, begun = time.process_time(), time.monotonic()
    await asyncio.sleep(clock.end - begun)
    return (time.process_time() - cpu) / (time.monotonic() - begun)


def _littles_law(plan: Plan, clock: Clock, results: list[StreamResult]) -> float | None:
    """L / (λ W), λ being the rate of answers. None where nothing was answered."""
    answered = sum(result.requests for result in results)
    completed = sum(result.completed for result in results)
    if not (answered and completed):
        return None
    mean_inside = clock.area / plan.seconds
    mean_seconds = sum(result.mean_seconds * result.requests for result in results) / answered
    return mean_inside / (completed / plan.seconds * mean_seconds)


def _name_of(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return type(error).__name__


def main() -> None:
    """Run the plan that the command line gives."""
    plan = read_plan(sys.argv[1])
    few = sum(stream.connections for stream in plan.streams) < SELECT_DESCRIPTORS
    selector = selectors.SelectSelector() if few else selectors.DefaultSelector()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        json.dump(runner.run(generate(plan)), sys.stdout)


if __name__ == "__main__":
    main()
