"""The admin port: /metrics, /healthz and /state, served by a process of its own. GET only, everything bounded.

    workers ── slots (shared memory) ──┐
    kernel ─── sock_diag, /proc ───────┴── admin process ── GET /metrics

It only reads, so watching costs the watched server nothing but its counters, and a scrape never
reaches a random worker: figures of all of them come out of one place, even while all are stalled.

asyncio rather than `http.server`: there a slow client holds a thread for as long as it drips; here
one deadline covers a whole request head.

Imported by the admin process only: asyncio is some MiB, which main and every worker would carry.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
from collections.abc import Callable
from http import HTTPStatus

from services.metrics.collector import Collector
from services.metrics.description import Description
from services.metrics.exposition import CONTENT_TYPE
from services.metrics.slots import Slots
from services.metrics.state import health, state

log = logging.getLogger(__name__)

MAX_HEAD_BYTES = 16384
MAX_CONNECTIONS = 64
CLIENT_SECONDS = 10.0
"""Time for a client to send its next request's head, or to take a response. Prometheus keeps its
connection for as long as it scrapes more often than this."""
TEXT = "text/plain; charset=utf-8"

Content = tuple[HTTPStatus, str, bytes]
"""Status, content type, body."""
Routes = dict[bytes, Callable[[], Content]]


def serve_admin(listener: socket.socket, description: Description, slots: Slots) -> None:
    """Serve the admin port on `listener`. Returns when the listener fails, so in effect never.

    Runs in a process forked for it, which the caller ties to main's life (PR_SET_PDEATHSIG).
    """
    # Ctrl-C reaches the whole foreground group: stay, and show the drain, until main ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(_serve(listener, routes(description, slots)))


def routes(description: Description, slots: Slots) -> Routes:
    """Return the function that makes the content of each path."""
    collector = Collector(description, slots)

    def make_metrics() -> Content:
        return HTTPStatus.OK, CONTENT_TYPE, collector.text()

    def make_state() -> Content:
        body = json.dumps(state(description, slots), default=str).encode() + b"\n"
        return HTTPStatus.OK, "application/json", body

    def make_health() -> Content:
        healthy, text = health(description, slots)
        return HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE, TEXT, f"{text}\n".encode()

    return {b"/metrics": make_metrics, b"/state": make_state, b"/healthz": make_health}


async def _serve(listener: socket.socket, paths: Routes) -> None:
    connections = 0

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.transport.set_write_buffer_limits(0)  # drain() then means: the kernel has it all
        try:
            if connections <= MAX_CONNECTIONS:
                while await _exchange(reader, writer, paths):
                    pass
            else:
                log.warning("admin port: more than %d connections, one was closed", MAX_CONNECTIONS)
        except (OSError, EOFError, TimeoutError):
            pass  # the client's own affair: it went away, or is too slow
        finally:
            connections -= 1
            # close() would wait for a client that does not read. What was written is in the kernel.
            writer.transport.abort()

    listener.setblocking(False)
    server = await asyncio.start_server(client, sock=listener, limit=MAX_HEAD_BYTES)
    await server.serve_forever()


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, paths: Routes) -> bool:
    """Read one request and respond; return whether another may follow."""
    try:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), CLIENT_SECONDS)
    except asyncio.LimitOverrunError:
        await _write(writer, _plain(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE), keep=False)
        return False
    line, *fields = head[:-4].split(b"\r\n")
    headers = {name.lower(): value.strip().lower() for name, _, value in (field.partition(b":") for field in fields)}
    words = line.split(b" ")
    if len(words) != 3 or words[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        await _write(writer, _plain(HTTPStatus.BAD_REQUEST), keep=False)
        return False
    # A body would have to be read before the next head: close instead, nothing here takes one.
    has_body = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
    keep = words[2] == b"HTTP/1.1" and headers.get(b"connection") != b"close" and not has_body
    await _write(writer, respond(words[0], words[1], paths), keep=keep, body=words[0] != b"HEAD")
    return keep


def respond(method: bytes, target: bytes, paths: Routes) -> Content:
    """Make the response to one request. Never raises: a failure here is a bug of ours and says so."""
    make = paths.get(target.partition(b"?")[0])
    if make is None:
        return _plain(HTTPStatus.NOT_FOUND)
    if method not in (b"GET", b"HEAD"):
        return _plain(HTTPStatus.METHOD_NOT_ALLOWED)
    try:
        return make()
    except Exception:
        log.exception("admin port: %s failed", target.decode("ascii", "replace"))
        return _plain(HTTPStatus.INTERNAL_SERVER_ERROR)


def _plain(status: HTTPStatus) -> Content:
    return status, TEXT, f"{status.value} {status.phrase}\n".encode()


async def _write(writer: asyncio.StreamWriter, response: Content, *, keep: bool, body: bool = True) -> None:
    status, content_type, content = response
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {content_type}\r\nContent-Length: {len(content)}\r\n"
    )
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        head += "Allow: GET, HEAD\r\n"
    if not keep:
        head += "Connection: close\r\n"
    writer.write(f"{head}\r\n".encode() + (content if body else b""))
    await asyncio.wait_for(writer.drain(), CLIENT_SECONDS)
