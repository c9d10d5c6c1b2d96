"""Processes that die: what dies with them is counted, others take their turn, and successors come."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import threading
from collections import Counter

import pytest
from support.servers import Server, alive, occupy, wait_for_busy, wait_until

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
BLOCK = b"GET /work?block=20s HTTP/1.1\r\nHost: x\r\n\r\n"
ROWS = [("memcached", []), ("memcached", ["--assign", "least-connections"]), ("nodejs", ["--cluster", "3"])]
PROCESSES = ("--worker-kind", "process", "--workers", "3")


def worker_of(server: Server, client: socket.socket) -> str:
    return re.search(rb"X-Worker: (\w+)", server.ask(GET, client))[1].decode()


def wait_for_state(server: Server, *states: str) -> None:
    wait_until(lambda: {worker["state"] for worker in server.state()["workers"]} <= set(states), what=f"all {states}")


def is_accounted_for(server: Server) -> bool:
    accepted = server.metric("lab_connections_accepted_total")
    return accepted == server.metric("lab_connections_closed_total") + server.metric("lab_connections_open")


SLOW_START = """
import time
from services.workers.main import Main
restart = Main._restart
Main._restart = lambda self, *args: self.loop.call_later(5, lambda: restart(self, *args))
"""


@pytest.mark.parametrize(("model", "options"), ROWS)
def test_turns_pass_over_a_worker_that_is_being_replaced(serve_with, model, options) -> None:
    server = serve_with(SLOW_START, model, *PROCESSES, *options)
    victim = server.state()["workers"][1]
    os.kill(victim["pid"], signal.SIGKILL)
    wait_until(lambda: server.state()["workers"][1]["state"] == "gone", what="its end")
    turns = Counter(worker_of(server, server.connect()) for _ in range(30))
    assert turns == {"0": 15, "2": 15}
    wait_until(lambda: server.state()["workers"][1]["state"] == "idle", what="a successor")
    clients = [server.connect() for _ in range(60 if "least-connections" in options else 6)]
    assert "1" in {worker_of(server, client) for client in clients}
    assert server.metric("lab_connections_closed_total", reason="worker_died") == 0


@pytest.mark.parametrize(("model", "options"), ROWS)
def test_turns_are_even_while_all_serve(serve, model, options) -> None:
    server = serve(model, *PROCESSES, *options)
    turns = Counter(worker_of(server, server.connect()) for _ in range(32))
    assert max(turns.values()) - min(turns.values()) <= 1


@pytest.mark.parametrize("dispatch", ["request-idle-stack", "request-fifo", "request-least-loaded", "connection"])
def test_requests_pass_over_a_worker_that_is_being_replaced(serve_with, dispatch) -> None:
    server = serve_with(SLOW_START, "ramcloud", *PROCESSES, "--dispatch", dispatch)
    os.kill(server.state()["workers"][1]["pid"], signal.SIGKILL)
    wait_until(lambda: server.state()["workers"][1]["state"] == "gone", what="its end")
    assert "1" not in {worker_of(server, server.connect()) for _ in range(30)}


def test_killed_workers_waiting_connections_are_closed_and_counted(serve) -> None:
    server = serve("memcached", "--worker-kind", "process", "--workers", "1")
    blocker = server.connect()
    blocker.sendall(BLOCK)
    wait_for_busy(server)
    waiting = [server.connect() for _ in range(7)]
    wait_until(lambda: server.metric("lab_queue_depth") == 7, what="seven on their way")
    os.kill(server.state()["workers"][0]["pid"], signal.SIGKILL)
    for client in (blocker, *waiting):
        assert ends(client)
    wait_until(lambda: server.metric("lab_connections_closed_total", reason="worker_died") == 8, what="all counted")
    assert server.metric("lab_queue_depth") == 0
    assert is_accounted_for(server)
    wait_until(lambda: server.state()["workers"][0]["state"] == "idle", what="its successor")
    assert server.get("/").status_code == 200


def test_killed_workers_busy_time_is_counted(serve) -> None:
    server = serve("memcached", "--worker-kind", "process", "--workers", "1")

    def busy_seconds() -> float:
        return server.metric("lab_loop_busy_seconds_total", worker="0")

    server.connect().sendall(BLOCK)
    wait_until(lambda: busy_seconds() > 0.5, what="a turn that is counted before it ends")
    os.kill(server.state()["workers"][0]["pid"], signal.SIGKILL)
    wait_until(lambda: server.state()["workers"][0]["state"] == "idle", what="its successor")
    before = busy_seconds()
    server.get("/work?block=100ms")
    wait_until(lambda: busy_seconds() >= before + 0.1, what="the successor's time, on top of it")


LATE_NEWS = """
from services.workers.main import Main
notice = Main.notice_death
Main.notice_death = lambda self: self.loop.call_later(2, lambda: notice(self))
"""


@pytest.mark.parametrize(("model", "options"), ROWS)
def test_client_that_comes_back_before_the_death_is_noticed_is_served(serve_with, model, options) -> None:
    server = serve_with(LATE_NEWS, model, *PROCESSES, *options)
    victim = server.state()["workers"][0]["pid"]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: not alive(victim), what="its end")
    assert "0" not in {worker_of(server, server.connect()) for _ in range(6)}
    wait_until(lambda: server.metric("lab_worker_restarts_total") == 1, what="a restart")
    closed = [server.metric("lab_connections_closed_total", reason=reason) for reason in ("queue_full", "worker_died")]
    assert closed == [0, 0]


def test_log_says_how_a_worker_ended_and_with_how_many_connections(serve) -> None:
    server = serve("memcached", "--worker-kind", "process", "--workers", "2")
    clients = [server.connect() for _ in range(5)]
    owners = [worker_of(server, client) for client in clients]
    victim = server.state()["workers"][0]
    os.kill(victim["pid"], signal.SIGSEGV)
    wait_until(lambda: server.state()["workers"][0]["pid"] != victim["pid"], 1, "a successor")
    line = f"worker 0 died (pid {victim['pid']}, SIGSEGV) with {owners.count('0')} connections; starting another"
    assert line in server.log.read_text()
    assert [ends(client) for client, owner in zip(clients, owners, strict=True) if owner == "0"] == [True] * 3
    for client, owner in zip(clients, owners, strict=True):
        if owner == "1":
            assert worker_of(server, client) == "1"


def test_log_counts_the_request_that_a_worker_had_begun(serve) -> None:
    server = serve("ramcloud", "--worker-kind", "process", "--workers", "1")
    server.connect().sendall(BLOCK)
    (busy,) = wait_for_busy(server)
    os.kill(busy["pid"], signal.SIGKILL)
    wait_until(lambda: server.metric("lab_worker_restarts_total") == 1, what="a restart")
    assert f"worker 0 died (pid {busy['pid']}, SIGKILL) with 1 connection; starting" in server.log.read_text()


def ends(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("model", ["memcached", "nginx", "reuseport", "ramcloud"])
def test_nothing_is_lost_from_the_counts_when_workers_die_under_load(serve, model) -> None:
    server = serve(model, "--worker-kind", "process", "--workers", "2")
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            try:
                with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
                    client.sendall(GET)
                    client.recv(100)
            except OSError:
                continue

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(1, 7):
        wait_for_state(server, "idle", "busy")
        os.kill(server.state()["workers"][turn % 2]["pid"], signal.SIGKILL)
        wait_until(lambda turn=turn: server.metric("lab_worker_restarts_total") == turn, what="a burial")
    stop.set()
    for thread in threads:
        thread.join()
    wait_until(lambda: server.metric("lab_connections_open") == 0, what="the end of all connections")
    wait_until(lambda: is_accounted_for(server), what="every connection accounted for")
    assert server.metric("lab_queue_depth") == 0


def test_worker_killed_in_a_drain_fails_its_request_at_once(serve) -> None:
    server = serve("ramcloud", "--worker-kind", "process", "--workers", "1", "--drain", "30")
    begun, queued = server.connect(), server.connect()
    begun.sendall(BLOCK)
    wait_for_busy(server)
    queued.sendall(GET)
    wait_until(lambda: server.metric("lab_queue_depth") == 1, what="a queued request")
    server.signal(signal.SIGTERM)
    wait_until(lambda: refused(server.port), what="a closed port")
    os.kill(server.state()["workers"][0]["pid"], signal.SIGKILL)
    assert ends(begun)
    assert ends(queued)  # nobody is left to execute it
    assert server.process.wait(5) == 0
    assert "SIGKILL) with 1 connection; not replaced, since the server drains" in server.log.read_text()


@pytest.mark.parametrize("model", ["memcached", "nginx"])
def test_worker_killed_in_a_drain_is_counted(serve, model) -> None:
    server = serve(model, "--worker-kind", "process", "--workers", "2", "--drain", "30")
    occupy(server, BLOCK, workers=2)
    server.signal(signal.SIGTERM)
    if model == "memcached":  # nginx's stuck workers keep the listener open
        wait_until(lambda: refused(server.port), what="a closed port")
    os.kill(server.state()["workers"][0]["pid"], signal.SIGKILL)
    wait_until(lambda: server.metric("lab_connections_closed_total", reason="worker_died") >= 1, what="a burial")
    assert server.state()["workers"][0]["connections"] == 0
    assert server.state()["workers"][0]["state"] == "gone"


def refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


# Descriptors.


def test_worker_without_descriptors_leaves_connections_in_its_channel(serve) -> None:
    server = serve(
        "memcached", "--worker-kind", "process", "--workers", "1", "--max-connections", "1000", "--backlog", "512",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
    )  # fmt: skip
    clients = [server.connect() for _ in range(150)]
    wait_until(lambda: server.metric("lab_accept_errors_total", errno="EMFILE") >= 1, what="EMFILE")
    wait_until(lambda: server.metric("lab_connections_accepted_total") == len(clients), what="all accepted")
    wait_until(lambda: is_accounted_for_on_the_way(server), what="every connection accounted for")
    assert server.metric("lab_queue_depth") > 0
    assert server.metric("lab_connections_closed_total", reason="error") == 0  # none was lost
    for client in clients[:140]:
        client.close()
    open_ones = [client for client in clients[140:] if not refused_late(client)]
    for client in open_ones:
        assert server.ask(GET, client).startswith(b"HTTP/1.1 200")
    wait_until(lambda: server.metric("lab_queue_depth") == 0, what="an empty channel")
    assert is_accounted_for(server)


def is_accounted_for_on_the_way(server: Server) -> bool:
    accepted = server.metric("lab_connections_accepted_total")
    closed = server.metric("lab_connections_closed_total")
    return accepted == closed + server.metric("lab_connections_open") + server.metric("lab_queue_depth")


def refused_late(client: socket.socket) -> bool:
    """Whether the server has hung up already: more waited than the channel holds."""
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
    finally:
        client.settimeout(10)


ONE_MORE_THAN_SEEN = """
import os
from services.workers.process import ProcessWorker
receive = ProcessWorker._receive_one
def receive_one(self):
    self._last_descriptor = 1 << 30  # blind: it does not see the last one coming
    return receive(self)
ProcessWorker._receive_one = receive_one
"""


def test_lost_descriptor_is_counted(serve_with) -> None:
    server = serve_with(
        ONE_MORE_THAN_SEEN, "memcached", "--worker-kind", "process", "--workers", "1", "--max-connections", "1000",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
    )  # fmt: skip
    clients = [server.connect() for _ in range(100)]
    wait_until(lambda: server.metric("lab_connections_closed_total", reason="error") >= 1, what="a lost connection")
    assert server.metric("lab_accept_errors_total", errno="EMFILE") >= 1
    for client in clients:
        client.close()
    wait_until(lambda: server.metric("lab_connections_open") == 0, what="the end of all")
    wait_until(lambda: server.metric("lab_queue_depth") == 0, what="an empty channel")
    assert is_accounted_for(server)


def test_worker_is_replaced_while_clients_hold_every_descriptor(serve) -> None:
    server = serve(
        "ramcloud", "--worker-kind", "process", "--workers", "2", "--max-connections", "1000", "--backlog", "512",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
    )  # fmt: skip
    clients = [server.connect() for _ in range(200)]
    wait_until(lambda: server.metric("lab_accept_errors_total", errno="EMFILE") >= 1, what="EMFILE")
    for turn in range(1, 4):
        for worker in server.state()["workers"]:
            os.kill(worker["pid"], signal.SIGKILL)
        wait_until(lambda turn=turn: server.metric("lab_worker_restarts_total") == 2 * turn, what="two burials")
        wait_for_state(server, "idle")
        assert server.ask(GET, clients[0]).startswith(b"HTTP/1.1 200")
    assert "cannot be replaced" not in server.log.read_text()
