"""`/sink?rate=`: a body that is read slowly holds its sender up, and outlives nobody."""

from __future__ import annotations

import socket
import struct
import time

import pytest
from support.servers import Server, read_response, wait_until

RST_ON_CLOSE = struct.pack("ii", 1, 0)
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def begin_sink(server: Server, rate: int, size: int, sent: int) -> socket.socket:
    """A client that announces `size` bytes, and has sent so many of them.

    What the receive window keeps back stays with the client, and behind it the news that it has closed.
    """
    client = server.connect()
    client.sendall(b"POST /sink?rate=%d HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (rate, size) + bytes(sent))
    wait_until(lambda: server.metric("lab_bytes_total", direction="in") > 0, what="the first read")
    return client


def closed(server: Server, reason: str) -> float:
    return server.metric("lab_connections_closed_total", reason=reason)


def test_sink_takes_the_time_that_its_rate_asks_for(serve) -> None:
    server = serve("nodejs")
    started = time.monotonic()
    client = begin_sink(server, rate=50_000, size=100_000, sent=100_000)
    assert b"100000 bytes received" in read_response(client)
    assert time.monotonic() - started > 1.5


def test_others_are_served_while_a_sink_pauses(serve) -> None:
    server = serve("nodejs")
    begin_sink(server, rate=1, size=100_000, sent=50_000)
    assert b"200 OK" in server.ask(GET)


@pytest.mark.parametrize("reset", [True, False])
def test_pausing_sink_does_not_outlive_its_peer(serve, reset) -> None:
    server = serve("nodejs")
    client = begin_sink(server, rate=1, size=100_000, sent=40_000)
    if reset:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
    client.close()
    wait_until(lambda: closed(server, "client") + closed(server, "error") == 1, 5, "the end of the connection")
    assert server.metric("lab_connections_open") == 0


def test_sink_is_not_slowed_once_all_has_been_sent(serve) -> None:
    server = serve("nodejs")
    client = begin_sink(server, rate=1, size=40_000, sent=40_000)
    client.shutdown(socket.SHUT_WR)
    assert b"40000 bytes received" in read_response(client)


def test_sink_whose_sender_stalls_is_cut(serve) -> None:
    server = serve("nodejs", "--body-timeout", "1")
    client = begin_sink(server, rate=1_000_000, size=100_000, sent=50_000)
    assert b"408" in read_response(client)
    wait_until(lambda: closed(server, "body_timeout") == 1)


def test_slow_sink_is_not_cut_for_being_slow(serve) -> None:
    server = serve("nodejs", "--body-timeout", "1")
    client = begin_sink(server, rate=30_000, size=100_000, sent=100_000)
    assert b"100000 bytes received" in read_response(client)


def test_slow_body_behind_other_work_is_read_to_its_end(serve) -> None:
    server = serve("ramcloud", "--workers", "1")
    client = server.connect()
    client.sendall(b"GET /work?block=300ms HTTP/1.1\r\nHost: x\r\n\r\n")
    client.sendall(b"POST /sink?rate=1000000 HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000))
    assert b"200 OK" in read_response(client)
    assert b"100000 bytes received" in read_response(client)
