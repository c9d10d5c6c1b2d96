"""A worker thread that an exception ends: nobody waits for it, and its neighbours go on."""

from __future__ import annotations

import contextlib
import socket
import time

import httpx
import pytest
from support.servers import Server, read_response, wait_for_busy, wait_until

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
CRASH = b"GET /crash HTTP/1.1\r\nHost: x\r\n\r\n"

# No request can crash a worker, so the fault is put in from inside: a worker that handles /crash does.
CRASHING = """
from services.net import event_loop
begin = event_loop.EventLoop.__init__
def init(self, *args, **options):
    begin(self, *args, **options)
    handle = self.handle
    def crashing(message):
        if message.target == b"/crash":
            raise RuntimeError("put in by the test")
        return handle(message)
    self.handle = crashing
event_loop.EventLoop.__init__ = init
"""


def wait_for_crash(server: Server, number: int = 1) -> None:
    def crashed() -> int:
        return [worker["state"] for worker in server.state()["workers"]].count("crashed")

    wait_until(lambda: crashed() == number, what="a crashed worker")
    assert httpx.get(server.admin + "/healthz").status_code == 503


def ends(client: socket.socket) -> bool:
    """Whether the server hung up; fails if nothing comes within the client's time."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def all_closed(server: Server) -> bool:
    accepted = server.metric("lab_connections_accepted_total")
    return accepted == server.metric("lab_connections_closed_total") and not server.metric("lab_connections_open")


def test_request_in_hand_is_failed_and_the_queue_goes_to_others(serve_with) -> None:
    server = serve_with(CRASHING, "ramcloud", "--workers", "2", "--dispatch", "request-least-loaded")
    blockers = [server.connect() for _ in range(2)]
    for blocker in blockers:
        blocker.sendall(b"GET /work?block=3s HTTP/1.1\r\nHost: x\r\n\r\n")
    wait_for_busy(server, 2)
    victim = server.connect()
    victim.sendall(CRASH)  # for one of the two; behind it wait others
    waiting = [server.connect() for _ in range(8)]
    for client in waiting:
        client.sendall(GET)
    assert ends(victim)
    for client in waiting:
        assert read_response(client).startswith(b"HTTP/1.1 200")
    wait_for_crash(server)
    assert server.metric("lab_connections_closed_total", reason="worker_died") == 1
    for _ in range(8):
        assert server.ask(GET).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("dispatch", ["request-idle-stack", "request-fifo", "request-least-loaded", "connection"])
def test_requests_do_not_wait_for_nobody(serve_with, dispatch) -> None:
    server = serve_with(CRASHING, "ramcloud", "--workers", "1", "--dispatch", dispatch)
    blocker, victim, waiting = server.connect(), server.connect(), server.connect()
    blocker.sendall(b"GET /work?block=3s HTTP/1.1\r\nHost: x\r\n\r\n")
    wait_for_busy(server)
    victim.sendall(CRASH)
    wait_until(lambda: server.metric("lab_queue_depth") == 1, what="a queued request")
    waiting.sendall(GET)
    assert ends(victim)
    assert ends(waiting)
    late = server.connect()
    late.sendall(GET)
    assert ends(late)
    wait_for_crash(server)
    assert server.metric("lab_connections_closed_total", reason="worker_died") == 3
    wait_until(lambda: server.metric("lab_queue_depth") == 0, what="an empty queue")


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("reuseport", []),
        ("nginx", []),
        ("nginx", ["--wakeup", "herd"]),
        ("nginx", ["--wakeup", "mutex"]),
        ("nginx", ["--wakeup", "blocking"]),
        ("memcached", []),
        ("memcached", ["--assign", "least-connections"]),
    ],
)
def test_neighbours_serve_everybody(serve_with, model, options) -> None:
    server = serve_with(CRASHING, model, "--worker-kind", "thread", "--workers", "2", *options)
    victim = server.connect()
    victim.sendall(CRASH)
    assert ends(victim)
    wait_for_crash(server)
    for _ in range(20):
        assert server.ask(GET).startswith(b"HTTP/1.1 200")
    assert server.metric("lab_connections_closed_total", reason="worker_died") == 1
    for client in server.clients:
        client.close()
    wait_until(lambda: all_closed(server), what="every connection accounted for")


@pytest.mark.parametrize(("model", "options"), [("reuseport", []), ("nginx", []), ("nginx", ["--wakeup", "blocking"])])
def test_without_any_worker_connections_are_refused(serve_with, model, options) -> None:
    server = serve_with(CRASHING, model, "--worker-kind", "thread", "--workers", "1", *options)
    client = server.connect()
    client.sendall(CRASH)
    assert ends(client)
    wait_for_crash(server)
    wait_until(lambda: refused(server.port), what="a closed port")


def refused(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_connections_on_their_way_to_a_crashed_worker_are_closed_and_counted(serve_with) -> None:
    server = serve_with(CRASHING, "memcached", "--workers", "1")
    blocker = server.connect()
    blocker.sendall(b"GET /work?block=3s HTTP/1.1\r\nHost: x\r\n\r\nGET /crash HTTP/1.1\r\nHost: x\r\n\r\n")
    wait_for_busy(server)
    waiting = [server.connect() for _ in range(5)]
    assert read_response(blocker).startswith(b"HTTP/1.1 200")
    for client in (blocker, *waiting):
        assert ends(client)
    wait_for_crash(server)
    assert server.metric("lab_connections_closed_total", reason="worker_died") == 6
    assert server.metric("lab_queue_depth") == 0
    with contextlib.suppress(ConnectionError):  # nobody serves: closed and counted
        assert ends(server.connect())
    wait_until(lambda: server.metric("lab_connections_closed_total", reason="worker_died") == 7, what="another")


def test_server_with_a_crashed_worker_drains(serve_with) -> None:
    server = serve_with(CRASHING, "ramcloud", "--workers", "2")
    client = server.connect()
    client.sendall(CRASH)
    assert ends(client)
    wait_for_crash(server)
    began = time.monotonic()
    server.process.terminate()
    assert server.process.wait(5) == 0
    assert time.monotonic() - began < 5
