"""A proxy that makes trouble between a client and a server: it cuts connections, and asks twice.

    python -m lab.load.fault_proxy '{"host": …, "port": …, "listen": …, "cut": 0.2, "repeat": 0.2, "seed": 1}'

prints the port it listens on, and when its standard input ends, what it has seen, as JSON. Of the requests that carry
an Idempotency-Key, a share meets one of two faults; which of the two depends on the path, so that what became of each
can be told apart:

    cut      the server has answered, so the effect is there; the client loses its connection instead of the answer,
             and its retry comes *later*
    repeat   the server is asked twice at the same time, as by a proxy that retries on its own: the duplicate comes
             *meanwhile*; the client gets the answer that came first
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from zlib import crc32

HEAD_END = b"\r\n\r\n"
KEY = re.compile(rb"\r\nidempotency-key: *([^\r\n]*)", re.IGNORECASE)
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CUT, REPEAT = "cut", "repeat"
LAST_SECONDS = 5.0
MAX_BODY_BYTES = 1 << 20
"""Far more than any request or answer that meets a fault here."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Target, and faults on the way to it."""

    host: str
    port: int
    listen: str
    cut: float
    """Share of the requests on half of the paths."""
    repeat: float
    """Share of the requests on the other half."""
    seed: int = 1


@dataclass
class Path:
    """Counts of one path."""

    fault: str
    requests: int = 0
    """Sent to the server, duplicates among them."""
    faults: int = 0
    applied: dict[str, int] = field(default_factory=dict)
    """Key of each operation that the server has answered with success, and how often it did."""


@dataclass
class Seen:
    """Everything that was seen."""

    paths: dict[str, Path] = field(default_factory=dict)
    seconds: float = 0.0
    """That the server took to answer, all requests added up."""


class Injector:
    """All connections of one proxy."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._random = random.Random(plan.seed)
        self.seen = Seen()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, request by request, until it goes or is cut off."""
        upstreams = [Upstream(self._plan.host, self._plan.port) for _ in range(2)]
        try:
            while not writer.is_closing():
                await self._pass_on(await read_message(reader), upstreams, writer)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            pass  # either side has gone, as it may
        finally:
            for upstream in upstreams:
                upstream.close()
            writer.close()

    async def _pass_on(self, request: bytes, upstreams: list[Upstream], writer: asyncio.StreamWriter) -> None:
        key = KEY.search(request)
        if key is None:
            writer.write(await upstreams[0].ask(request))
            return
        path = self._path(request.split(b" ", 2)[1].partition(b"?")[0].decode("latin-1"))
        fault = self._random.random() < (self._plan.cut if path.fault == CUT else self._plan.repeat)
        path.faults += fault
        asked = upstreams if fault and path.fault == REPEAT else upstreams[:1]
        path.requests += len(asked)
        answers = [asyncio.create_task(self._ask(upstream, request)) for upstream in asked]
        first = await next(asyncio.as_completed(answers))
        if not (fault and path.fault == CUT):
            writer.write(first)
        for answer in await asyncio.gather(*answers):
            if answer.startswith(b"HTTP/1.1 2"):
                name = key[1].decode("latin-1")
                path.applied[name] = path.applied.get(name, 0) + 1
        if fault and path.fault == CUT:
            writer.transport.abort()

    async def _ask(self, upstream: Upstream, request: bytes) -> bytes:
        begun = time.monotonic()
        try:
            return await upstream.ask(request)
        finally:
            self.seen.seconds += time.monotonic() - begun

    def _path(self, name: str) -> Path:
        if name not in self.seen.paths:
            fault = REPEAT if crc32(name.encode()) % 2 else CUT
            self.seen.paths[name] = Path(fault)
        return self.seen.paths[name]


class Upstream:
    """One connection to the server, made when it is first needed."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> bytes:
        """The answer to a request. Raises OSError or IncompleteReadError."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address)
        reader, writer = self._streams
        writer.write(request)
        return await read_message(reader)

    def close(self) -> None:
        """Close it, if it was made."""
        if self._streams:
            self._streams[1].close()


async def read_message(reader: asyncio.StreamReader) -> bytes:
    """One request or response whose body, if any, has a Content-Length.

    Raises IncompleteReadError at the end, and LimitOverrunError for one that is too long.
    """
    head = await reader.readuntil(HEAD_END)
    length = LENGTH.search(head)
    if not length:
        return head
    if int(length[1]) > MAX_BODY_BYTES:
        raise asyncio.LimitOverrunError(f"a body of {int(length[1])} B", len(head))
    return head + await reader.readexactly(int(length[1]))


async def run(plan: Plan) -> Seen:
    """Serve until standard input ends, and then what is still under way: it may have had its effect already."""
    injector = Injector(plan)
    clients: set[asyncio.Task[None]] = set()

    def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        clients.add(asyncio.create_task(injector.serve(reader, writer)))

    server = await asyncio.start_server(welcome, plan.listen, 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    with suppress(OSError):
        await asyncio.to_thread(sys.stdin.read)
    server.close()
    if clients:
        await asyncio.wait(clients, timeout=LAST_SECONDS)
    return injector.seen


def main() -> None:
    """Run the plan that the command line gives."""
    json.dump(asdict(asyncio.run(run(Plan(**json.loads(sys.argv[1]))))), sys.stdout)


if __name__ == "__main__":
    main()
