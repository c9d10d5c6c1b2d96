"""A connection's end: the whole response arrives, although more input comes while it is written or after."""

from __future__ import annotations

import json
import re
import select
import signal
import socket
import time
from collections import defaultdict
from pathlib import Path

import pytest
from support.servers import Server, read_head, read_response, wait_for_busy, wait_until

from lab.peers.process import accepts
from services.metrics import slots
from services.metrics.sampling import Sampler
from services.net import lingering, timestamps
from services.net.connection import Connection
from services.options import MODELS
from services.protocols.http1 import CommonHead, Http1

ROWS = [(model.name, kind) for model in MODELS.values() for kind in model.worker_kinds]
SIZE = 4_000_000
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
STREAM = b"GET /stream?bytes=%d HTTP/%b\r\nHost: x\r\n%b\r\n"
CLOSE = b"Connection: close\r\n"
NO_REQUEST = b"\r\n" * 10_000
PATIENT = ("--drain", "30")


def connect_to_read_slowly(server: Server) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    client.settimeout(20)
    client.connect(("127.0.0.1", server.port))
    server.clients.append(client)
    return client


def read_all(client: socket.socket) -> int:
    """Bytes until the server closes; a reset raises."""
    received = 0
    while data := client.recv(65536):
        received += len(data)
    return received


@pytest.mark.parametrize(("version", "field"), [(b"1.1", CLOSE), (b"1.0", b"")], ids=["close", "1.0"])
@pytest.mark.parametrize(("model", "kind"), ROWS)
def test_last_response_is_whole_although_more_input_comes(serve, model, kind, version, field) -> None:
    server = serve(model, "--worker-kind", kind, "--workers", "1")
    for extra in (b"\r\n", GET, b"x" * 200_000):
        client = connect_to_read_slowly(server)
        client.sendall(STREAM % (SIZE, version, field))
        read_head(client)
        client.sendall(extra)
        assert read_all(client) == SIZE


@pytest.mark.parametrize(("model", "kind"), ROWS)
def test_response_under_way_is_whole_although_the_server_ends(serve, model, kind) -> None:
    server = serve(model, "--worker-kind", kind, "--workers", "1", *PATIENT)
    client = connect_to_read_slowly(server)
    client.sendall(STREAM % (SIZE, b"1.1", b""))
    read_head(client)
    server.signal(signal.SIGTERM)
    wait_until(lambda: not accepts(server.port), what="a drain")
    client.sendall(NO_REQUEST)
    assert read_all(client) == SIZE
    client.close()
    assert server.process.wait(15) == 0


@pytest.mark.parametrize(("model", "kind"), ROWS)
def test_response_under_way_is_whole_although_options_change(serve, tmp_path, model, kind) -> None:
    server = serve(model, "--worker-kind", kind, "--workers", "1", "--state-dir", str(tmp_path / "state"), *PATIENT)
    client = connect_to_read_slowly(server)
    client.sendall(STREAM % (SIZE, b"1.1", b""))
    read_head(client)
    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(20)
        control.connect(str(tmp_path / "state" / "control.sock"))
        control.sendall(b'{"set": {"max-connections": 1000}}\n')
        if model != "ramcloud":  # whose main drains, which `/state` does not show
            wait_until(lambda: server.state()["workers"][0]["state"] == "draining", what="a drain")
        client.sendall(NO_REQUEST)
        assert read_all(client) == SIZE
        client.close()
        assert json.loads(control.makefile().readline())["options"]["max_connections"] == 1000


def test_what_was_sent_survives_the_end_of_a_drain(serve) -> None:
    server = serve("nodejs", "--drain", "0.5")
    client = connect_to_read_slowly(server)
    size = 300_000  # all of it finds room in the kernel's buffers
    client.sendall(STREAM % (size, b"1.1", CLOSE) + GET * 1000)
    wait_until(lambda: server.metric("lab_bytes_total", direction="out") > size, what="a sent response")
    server.signal(signal.SIGTERM)
    assert server.process.wait(15) == 0
    read_head(client)
    assert read_all(client) == size


def test_408_arrives_although_more_input_comes(serve) -> None:
    server = serve("nodejs", "--header-timeout", "0.2")
    client = server.connect()
    client.sendall(b"GET / HTTP/1.1\r\n")
    wait_until(lambda: client.recv(1, socket.MSG_PEEK), what="a response")
    client.sendall(b"Host: x\r\n\r\n" * 1000)
    time.sleep(0.1)  # for a reset to arrive, if one is sent
    assert read_response(client).startswith(b"HTTP/1.1 408 ")
    assert client.recv(1) == b""


def test_connection_that_the_peer_does_not_close_is_closed_after_its_silence(serve) -> None:
    server = serve("nodejs")
    client = server.connect()
    client.sendall(b"GET / HTTP/1.0\r\n\r\n")
    began = time.monotonic()
    assert read_response(client).startswith(b"HTTP/1.1 200")
    assert client.recv(1) == b""  # it is half closed, at once
    assert time.monotonic() - began < 3
    assert server.metric("lab_connections_open") == 1
    wait_until(lambda: server.metric("lab_connections_open") == 0, seconds=15, what="a close")
    assert server.metric("lab_connections_closed_total", reason="server") == 1
    assert time.monotonic() - began > 4.5


LINGERS_FOR = """
import sys
from services.__main__ import main
from services.metrics import slots
from services.metrics.sampling import Sampler
from services.net import lingering, timestamps
from services.net.connection import Connection
lingering.LINGER_NS = int({seconds} * 1e9)
sys.exit(main())
"""


@pytest.mark.parametrize("seconds", [3, pytest.param(lingering.LINGER_NS / 1e9, marks=pytest.mark.nightly)])
def test_endless_input_behind_the_last_response_ends(serve, seconds) -> None:
    server = serve("nodejs", program=("-c", LINGERS_FOR.format(seconds=seconds)))
    client = server.connect()
    client.sendall(b"GET / HTTP/1.0\r\n\r\n")
    assert read_response(client).startswith(b"HTTP/1.1 200")
    began = time.monotonic()
    with pytest.raises(OSError, match=r"Broken pipe|reset"):  # noqa: PT012
        while time.monotonic() < began + seconds + 20:
            client.sendall(b"x" * 1000)
            time.sleep(0.02)
    assert seconds - 1 < time.monotonic() - began < seconds + 15


def test_idle_connection_is_closed_at_once_in_a_drain(serve) -> None:
    server = serve("nginx", *PATIENT)
    clients = [server.connect() for _ in range(20)]
    for client in clients:
        server.ask(GET, client)
    began = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.process.wait(15) == 0
    assert time.monotonic() - began < 4


@pytest.mark.parametrize("before", [0, 1], ids=["first", "second"])
def test_request_after_the_last_of_a_drain_is_not_executed(serve, before) -> None:
    """Its client was told that the connection closes, and may send it again elsewhere (RFC 9112, section 9.6)."""
    server = serve("nodejs", *PATIENT)
    client = server.connect()
    post = b"POST /counters/a?block=%dms HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    client.sendall(post % 0 * before + post % 700 + post % 0 + post % 0)
    server.signal(signal.SIGTERM)
    client.settimeout(20)
    received = b""
    while data := client.recv(65536):
        received += data
    # Those that were executed before the loop saw the signal are answered as ever; nothing comes behind the last.
    bodies = re.findall(rb"\r\n\r\n(\d+)\n", received)
    assert bodies == [b"%d" % (number + 1) for number in range(len(bodies))]
    assert received.count(b"Connection: close") <= 1
    if b"Connection: close" in received:
        assert received.rindex(b"Connection: close") > received.rindex(b"HTTP/1.1 ")


# Bodies in pieces.


def test_response_in_pieces_costs_no_memory_and_waits_for_its_reader(serve) -> None:
    server = serve("nodejs")
    client = connect_to_read_slowly(server)
    client.sendall(STREAM % (1 << 33, b"1.1", b""))
    read_head(client)
    before = resident_bytes(server.pid)
    for _ in range(500):
        client.recv(65536)
    assert resident_bytes(server.pid) - before < 4_000_000


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def test_requests_behind_a_body_in_pieces_are_executed_in_order(serve) -> None:
    server = serve("nodejs")
    client = server.connect()
    sink = b"POST /sink HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % 100_000 + bytes(100_000)
    client.sendall(sink + GET + sink)
    responses = [read_response(client) for _ in range(3)]
    assert [response.partition(b"\r\n\r\n")[2] for response in responses] == [
        b"100000 bytes received\n", b"ok\n", b"100000 bytes received\n",
    ]  # fmt: skip


def test_head_that_begins_behind_a_request_has_a_deadline_of_its_own(serve) -> None:
    server = serve("nodejs", "--header-timeout", "1")
    client = server.connect()
    half = len(GET) // 2
    client.sendall(GET[:half])
    until = time.monotonic() + 4
    while time.monotonic() < until:  # each read ends in the middle of a head, and each head comes in time
        client.sendall(GET[half:] + GET[:half])
        assert read_response(client).startswith(b"HTTP/1.1 200 ")
        time.sleep(0.1)


def test_last_response_of_a_drain_says_so_although_it_was_asked_for_before(serve) -> None:
    server = serve("ramcloud", "--workers", "1", *PATIENT)
    client = server.connect()
    slow = b"GET /work?block=4s HTTP/1.1\r\nHost: x\r\n\r\n"
    client.sendall(slow + GET + GET[:20])
    wait_for_busy(server)
    server.signal(signal.SIGTERM)
    wait_until(lambda: not accepts(server.port), what="a drain")
    client.sendall(GET[20:])
    received = b""
    while data := client.recv(65536):
        received += data
    assert received.count(b"HTTP/1.1 200 ") == 1
    assert b"\r\nConnection: close\r\n" in received


@pytest.mark.parametrize("model", ["nodejs", "memcached", "ramcloud"])
def test_parts_of_a_reply_are_no_requests(serve, model) -> None:
    server = serve(model, "--workers", "1", "--sample-rate", "1")
    line = b"get " + b"key " * 20_000 + b"\r\n"
    clients = [server.connect() for _ in range(3)]
    for client in clients:
        client.sendall(line)
    for client in clients:
        assert client.recv(100) == b"END\r\n"
        assert server.ask(GET).startswith(b"HTTP/1.1 200 ")
    wait_until(lambda: server.metric("lab_requests_total") == 6, what="the counts")
    counts = server.metric("lab_stage_duration_seconds_count", stage="service")
    assert 3 <= counts <= 6


class Batch:
    """As much of a loop as a connection needs to be read."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler, self.received, self.bytes_in, self.now_ns = sampler, [], 0, 0
        self.timeouts_ns = defaultdict(int)

    def watch(self, fd: int, source: object) -> None:
        pass


def test_one_in_so_many_is_sampled_among_requests_that_are_read_together(monkeypatch) -> None:
    sampled = []
    monkeypatch.setattr(
        timestamps, "receive", lambda sock, most, _: (sock.recv(most, socket.MSG_DONTWAIT), sampled.append(1) or 1)
    )
    loop = Batch(Sampler(slots.Slots(1).worker(0), "16", seed=1))
    for _ in range(640):
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.sendall(GET)
            connection = Connection(ours)
            connection.begin(loop, None)
            connection.ready(select.EPOLLIN)
            ours.close()
    assert len(loop.received) == 640
    assert 20 < len(sampled) < 80  # 40, with a standard deviation of about 4


@pytest.mark.parametrize(
    ("begun", "closed"), [(b"", 0), (b"POST / HTTP/1.1\r\n", 1), (GET, 0)], ids=["not", "head", "whole"]
)
def test_connection_that_closes_within_a_request_ends_its_parser(begun: bytes, closed: int) -> None:
    ended: list[Http1] = []

    class Parsing(Http1):
        def close(self) -> None:
            ended.append(self)
            super().close()

    loop = Batch(Sampler(slots.Slots(1).worker(0), "off"))
    loop.choose = lambda *_: Parsing(CommonHead(b"nginx", b"0"), lambda _: None)
    loop.release = lambda *_: None
    ours, theirs = socket.socketpair()
    with theirs:
        connection = Connection(ours)
        connection.begin(loop, None)
        if begun:
            connection.parse(begun)
        connection.close("client")
    assert len(ended) == closed
