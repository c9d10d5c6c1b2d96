"""A worker thread that an exception ends: its neighbours go on, and another thread takes its place."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import pytest
from support import plain_http
from support.servers import Server, alive, read_response, wait_for_busy, wait_until

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
CRASH = b"GET /crash HTTP/1.1\r\nHost: x\r\n\r\n"

# No request can crash a worker, so the fault is put in from inside: a worker that handles /crash does.
CRASHING = """
from services.net import server_loop
import os, signal
begin = server_loop.ServerLoop.__init__
def init(self, *args, **options):
    begin(self, *args, **options)
    handle = self.handle
    def crashing(message):
        if message.target == b"/crash":
            raise RuntimeError("put in by the test")
        if message.target == b"/segv":
            os.kill(os.getpid(), signal.SIGSEGV)
        if message.target == b"/exit":
            os._exit(3)
        return handle(message)
    self.handle = crashing
server_loop.ServerLoop.__init__ = init
"""


def wait_for_successors(server: Server, restarts: int = 1) -> None:
    """Wait until so many threads have been replaced, and all serve; a second is what it may take."""
    wait_until(lambda: server.metric("lab_worker_restarts_total") == restarts, 1, "a restart")
    wait_until(lambda: {worker["state"] for worker in server.state()["workers"]} <= {"idle", "busy"}, 1, "a successor")
    assert plain_http.get(server.admin + "/healthz").status_code == 200


def ends(client: socket.socket) -> bool:
    """Return whether the server hung up; fails if nothing comes within the client's time."""
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
    wait_for_successors(server)
    assert server.metric("lab_connections_closed_total", reason="worker_died") == 1
    for _ in range(8):
        assert server.ask(GET).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("dispatch", ["request-idle-stack", "request-fifo", "request-least-loaded", "connection"])
def test_requests_behind_a_crash_are_the_successors(serve_with, dispatch) -> None:
    server = serve_with(CRASHING, "ramcloud", "--workers", "1", "--dispatch", dispatch)
    blocker, victim, waiting = server.connect(), server.connect(), server.connect()
    blocker.sendall(b"GET /work?block=1s HTTP/1.1\r\nHost: x\r\n\r\n")
    wait_for_busy(server)
    victim.sendall(CRASH)
    wait_until(lambda: server.metric("lab_queue_depth") == 1, what="a queued request")
    waiting.sendall(GET)
    assert read_response(blocker).startswith(b"HTTP/1.1 200")
    assert ends(victim)
    assert read_response(waiting).startswith(b"HTTP/1.1 200")
    wait_for_successors(server)
    assert server.metric("lab_connections_closed_total", reason="worker_died") == 1
    assert server.metric("lab_queue_depth") == 0


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
def test_only_its_connections_end_and_all_workers_serve_again(serve_with, model, options) -> None:
    server = serve_with(CRASHING, model, "--worker-kind", "thread", "--workers", "2", *options)
    victim = server.connect()
    victim.sendall(CRASH)
    assert ends(victim)
    assert server.ask(GET).startswith(b"HTTP/1.1 200")
    wait_for_successors(server)
    for _ in range(20):
        assert server.ask(GET).startswith(b"HTTP/1.1 200")
    assert server.metric("lab_connections_closed_total", reason="worker_died") == 1
    for client in server.clients:
        client.close()
    wait_until(lambda: all_closed(server), what="every connection accounted for")


@pytest.mark.parametrize(
    ("model", "options"),
    [("reuseport", []), ("nginx", []), ("nginx", ["--wakeup", "mutex"]), ("nginx", ["--wakeup", "blocking"]),
     ("memcached", []), ("ramcloud", [])],
)  # fmt: skip
def test_crash_after_crash_leaves_no_descriptor_behind(serve_with, model, options) -> None:
    server = serve_with(CRASHING, model, "--worker-kind", "thread", "--workers", "1", *options)

    def crash(number: int) -> None:
        wait_until(lambda: "idle" in [worker["state"] for worker in server.state()["workers"]], what="a worker")
        with server.connect() as client:
            client.sendall(CRASH)
            assert ends(client)
        wait_until(lambda: server.metric("lab_worker_restarts_total") == number, what="a restart")

    crash(1)
    wait_for_successors(server)
    held = descriptors(server)
    for number in range(2, 22):
        crash(number)
    wait_for_successors(server, 21)
    wait_until(lambda: descriptors(server) <= held, what=f"no more than {held} descriptors")
    assert server.ask(GET).startswith(b"HTTP/1.1 200")


SLOW_TO_END = """
import time
from services.workers.thread import ThreadWorker
end = ThreadWorker._end
def end_later(self, state):
    time.sleep(1)
    end(self, state)
ThreadWorker._end = end_later
"""


@pytest.mark.parametrize("assign", ["round-robin", "least-connections"])
def test_client_that_comes_back_at_once_is_not_handed_to_the_dead(serve_with, assign) -> None:
    server = serve_with(CRASHING + SLOW_TO_END, "memcached", "--workers", "2", "--assign", assign)
    victim = server.connect()
    victim.sendall(CRASH)
    assert ends(victim)
    for _ in range(4):
        assert server.ask(GET).startswith(b"HTTP/1.1 200")
    assert server.metric("lab_connections_closed_total", reason="worker_died") == 1


def descriptors(server: Server) -> int:
    return len(list(Path(f"/proc/{server.pid}/fd").iterdir()))


def test_log_says_how_it_ended_and_with_how_many_connections(serve_with) -> None:
    server = serve_with(CRASHING, "memcached", "--workers", "1")
    idle = [server.connect() for _ in range(3)]
    for client in idle:
        assert server.ask(GET, client).startswith(b"HTTP/1.1 200")
    server.connect().sendall(CRASH)
    wait_for_successors(server)
    line = (
        """worker 0 died (its thread raised RuntimeError('put in by the test')) with 4 connections; starting another"""
    )
    assert line in server.log.read_text()
    assert all(map(ends, idle))


def test_connections_on_their_way_to_a_crashed_worker_are_closed_and_counted(serve_with) -> None:
    server = serve_with(CRASHING, "memcached", "--workers", "1")
    blocker = server.connect()
    blocker.sendall(b"GET /work?block=3s HTTP/1.1\r\nHost: x\r\n\r\nGET /crash HTTP/1.1\r\nHost: x\r\n\r\n")
    wait_for_busy(server)
    waiting = [server.connect() for _ in range(5)]
    assert read_response(blocker).startswith(b"HTTP/1.1 200")
    for client in (blocker, *waiting):
        assert ends(client)
    wait_for_successors(server)
    assert server.metric("lab_connections_closed_total", reason="worker_died") == 6
    assert server.metric("lab_queue_depth") == 0
    assert server.ask(GET).startswith(b"HTTP/1.1 200")


def test_server_with_a_crashed_worker_drains(serve_with) -> None:
    server = serve_with(CRASHING, "ramcloud", "--workers", "2")
    client = server.connect()
    client.sendall(CRASH)
    assert ends(client)
    wait_for_successors(server)
    began = time.monotonic()
    server.process.terminate()
    assert server.process.wait(5) == 0
    assert time.monotonic() - began < 5


SLOW_START = """
from services.workers.main import Main
restart = Main._restart
Main._restart = lambda self, *args: self.loop.call_later(2, lambda: restart(self, *args))
"""


def test_health_check_fails_until_there_is_a_successor(serve_with) -> None:
    server = serve_with(CRASHING + SLOW_START, "memcached", "--workers", "2")
    server.connect().sendall(CRASH)
    wait_until(lambda: plain_http.get(server.admin + "/healthz").status_code == 503, what="a failing health check")
    assert plain_http.get(server.admin + "/healthz").text == "worker 0 crashed\n"
    wait_until(lambda: plain_http.get(server.admin + "/healthz").status_code == 200, what="a healthy server")


@pytest.mark.parametrize("model", ["memcached", "ramcloud", "nginx"])
@pytest.mark.parametrize(
    ("target", "status", "words"),
    [(b"/segv", -signal.SIGSEGV, "Fatal Python error: Segmentation fault"), (b"/exit", 3, "")],
)
def test_end_of_the_process_ends_every_thread(serve_with, model, target, status, words) -> None:
    server = serve_with(CRASHING, model, "--worker-kind", "thread", "--workers", "2")
    idle = server.connect()
    assert server.ask(GET, idle).startswith(b"HTTP/1.1 200")
    family = server.descendants()
    server.connect().sendall(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % target)
    assert server.process.wait(5) == status
    assert ends(idle)
    assert words in server.log.read_text()
    wait_until(lambda: not any(map(alive, family)), what="the end of the admin process")


NO_THREAD_AT_FIRST = """
import threading
start, tries = threading.Thread.start, []
def start_later(self):
    if self.name == "worker-0":
        tries.append(1)
        if len(tries) in (2, 3):
            raise RuntimeError("can't start new thread")
    start(self)
threading.Thread.start = start_later
"""


def test_thread_that_cannot_be_started_now_is_started_later(serve_with) -> None:
    server = serve_with(CRASHING + NO_THREAD_AT_FIRST, "ramcloud", "--workers", "1")
    held = descriptors(server)
    server.connect().sendall(CRASH)
    assert server.ask(GET).startswith(b"HTTP/1.1 200")  # waits for the third attempt
    assert server.log.read_text().count("worker 0 cannot be replaced yet: ") == 2
    for client in server.clients:
        client.close()
    wait_until(lambda: descriptors(server) <= held, what=f"no more than {held} descriptors")
