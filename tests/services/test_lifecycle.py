"""Starting, draining, dying: what happens to connections, workers and ports when something ends."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest
from support import plain_http
from support.servers import alive, keep_busy, read_response, wait_for_busy, wait_until

from services.options import MODELS

ROWS = [(model.name, kind) for model in MODELS.values() for kind in model.worker_kinds]
PROCESS_ROWS = [(name, kind) for name, kind in ROWS if kind == "process" and name != "nodejs"]
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(("model", "kind"), ROWS)
def test_drain_finishes_the_request_in_flight(serve, model, kind) -> None:
    server = serve(model, "--worker-kind", kind, "--workers", "2")
    with server.connect() as client, server.connect() as idle:
        assert server.ask(GET, idle).startswith(b"HTTP/1.1 200")
        keep_busy(server, client)
        server.signal(signal.SIGTERM)
        answer = read_response(client)
        assert answer.startswith(b"HTTP/1.1 200")
        assert client.recv(1) == b""
        assert idle.recv(1) == b""
    assert server.process.wait(5) == 0


@pytest.mark.parametrize(("model", "kind"), ROWS)
def test_drain_accepts_what_is_queued_and_answers_it(serve, model, kind) -> None:
    server = serve(model, "--worker-kind", kind, "--workers", "1")
    keep_busy(server, server.connect())
    clients = [server.connect() for _ in range(10)]  # the handshake is the kernel's: they are queued
    for client in clients:
        client.sendall(GET)
    server.signal(signal.SIGTERM)
    assert all(read_response(client).startswith(b"HTTP/1.1 200") for client in clients)
    for client in server.clients:
        client.close()  # else the server lingers: the client may still be reading
    assert server.process.wait(5) == 0


def test_drain_is_bounded(serve) -> None:
    server = serve("nginx", "--drain", "0.3")
    with server.connect() as client:
        client.sendall(b"GET /work?block=30s HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for_busy(server)
        server.signal(signal.SIGTERM)
        assert server.process.wait(10) == 0  # 20 s before the request would have ended


def test_second_signal_stops_at_once(serve) -> None:
    server = serve("memcached", "--drain", "60")
    with server.connect() as client:
        client.sendall(b"GET /work?block=30s HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for_busy(server)
        server.signal(signal.SIGTERM)
        wait_until(lambda: refused(server.port), what="a closed port")
        server.signal(signal.SIGTERM)
        assert server.process.wait(5) == 1


def refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize(("model", "kind"), ROWS)
def test_killed_main_leaves_nothing_behind(serve, model, kind) -> None:
    server = serve(model, "--worker-kind", kind, *(["--cluster", "2"] if model == "nodejs" else []))
    with server.connect() as client:
        client.sendall(b"GET /work?block=20s HTTP/1.1\r\nHost: x\r\n\r\n")  # a worker stuck in a handler
        wait_for_busy(server)
        family = server.descendants()
        assert family
        server.signal(signal.SIGKILL)
        server.process.wait(5)
        wait_until(lambda: not any(alive(pid) for pid in family), what="the end of workers and admin process")
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", server.port))
        again.listen()


@pytest.mark.parametrize(("model", "kind"), PROCESS_ROWS)
def test_killed_worker_is_replaced_and_only_its_connections_fail(serve, model, kind) -> None:
    server = serve(model, "--worker-kind", kind, "--workers", "3")
    clients = [server.connect() for _ in range(12)]
    owners = [re.search(rb"X-Worker: (\w+)", server.ask(GET, client))[1].decode() for client in clients]
    before = server.metric("lab_requests_total")
    victim = next(w for w in server.state()["workers"] if w["worker"] == owners[0])
    os.kill(victim["pid"], signal.SIGKILL)
    wait_until(lambda: successor(server, victim) not in (None, victim["pid"]), what="a successor")
    wait_until(lambda: plain_http.get(server.url, timeout=5).status_code == 200)
    for client, owner in zip(clients, owners, strict=True):
        if owner != victim["worker"] or model == "ramcloud":  # ramcloud's workers own no connection
            assert server.ask(GET, client).startswith(b"HTTP/1.1 200")
        else:
            assert client.recv(1) == b""
    assert server.metric("lab_worker_restarts_total") == 1
    assert server.metric("lab_requests_total") > before
    closed = server.metric("lab_connections_closed_total", reason="worker_died")
    assert closed == (0 if model == "ramcloud" else owners.count(victim["worker"]))
    assert len({plain_http.get(server.url).headers["x-worker"] for _ in range(60)}) >= 1


def successor(server, victim) -> int | None:
    for worker in server.state()["workers"]:
        if worker["worker"] == victim["worker"] and worker["state"] in ("idle", "busy"):
            return worker["pid"]
    return None


def test_killed_worker_fails_the_request_it_had_begun(serve) -> None:
    server = serve("ramcloud", "--worker-kind", "process", "--workers", "2")
    with server.connect() as client:
        client.sendall(b"GET /work?block=20s HTTP/1.1\r\nHost: x\r\n\r\n")
        (busy,) = wait_for_busy(server)
        os.kill(busy["pid"], signal.SIGKILL)
        assert client.recv(100) == b""
    assert server.get("/").status_code == 200


@pytest.mark.parametrize("model", ["nodejs", "memcached", "nginx"])
def test_more_than_max_connections_are_closed_and_counted(serve, model) -> None:
    server = serve(model, "--workers", "2", "--max-connections", "5")
    clients = [server.connect() for _ in range(5)]
    for client in clients:
        assert server.ask(GET, client).startswith(b"HTTP/1.1 200")
    with server.connect() as extra:
        extra.settimeout(5)
        assert closed_by_peer(extra)
    wait_until(lambda: server.metric("lab_connections_closed_total", reason="max_connections") == 1)
    clients[0].close()
    wait_until(lambda: server.metric("lab_connections_open") == 4)
    assert server.get("/").status_code == 200


def closed_by_peer(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize(
    ("sent", "reason", "answer"),
    [
        (b"GET / HTT", "header_timeout", b"HTTP/1.1 408"),
        (b"PUT /kv/k HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc", "body_timeout", b"HTTP/1.1 408"),
        (b"", "idle_timeout", b""),
    ],
)
def test_slow_client_is_cut_and_counted(serve, sent, reason, answer) -> None:
    server = serve("nodejs", "--header-timeout", "0.5", "--body-timeout", "0.5", "--idle-timeout", "0.5")
    with server.connect() as client:
        client.sendall(sent)
        data = b""
        while part := client.recv(65536):
            data += part
    assert data.startswith(answer)
    assert server.metric("lab_connections_closed_total", reason=reason) == 1


def test_trickled_head_does_not_move_its_deadline(serve) -> None:
    server = serve("nodejs", "--header-timeout", "1")
    with server.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        for _ in range(200):
            client.sendall(b"a")
            if select.select([client], [], [], 0.1)[0]:  # the server said something, or hung up
                break
        assert client.recv(100).startswith(b"HTTP/1.1 408")
    wait_until(lambda: server.metric("lab_connections_closed_total", reason="header_timeout") == 1)


def test_client_that_never_reads_costs_bounded_memory_and_is_cut(serve) -> None:
    server = serve("nodejs", "--write-timeout", "1")
    rss = server.metric("lab_worker_memory_bytes", kind="rss")
    clients = [server.connect() for _ in range(20)]
    for client in clients:
        client.sendall(b"GET /stream?bytes=1000000000 HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
    assert server.get("/").status_code == 200
    wait_until(lambda: server.metric("lab_connections_closed_total", reason="write_timeout") == 20, 15)
    assert server.metric("lab_worker_memory_bytes", kind="rss") - rss < 20_000_000


def test_pipelined_large_answers_are_made_one_at_a_time(serve) -> None:
    server = serve("nodejs")
    plain_http.put(server.url + "/kv/large", content=bytes(1_000_000))
    rss = server.metric("lab_worker_memory_bytes", kind="rss")
    clients = [server.connect() for _ in range(10)]
    for client in clients:
        client.sendall(b"GET /kv/large HTTP/1.1\r\nHost: x\r\n\r\n" * 500)
    wait_until(lambda: server.metric("lab_socket_send_queue_bytes") > 0, 15)
    assert server.get("/").status_code == 200
    assert server.metric("lab_worker_memory_bytes", kind="rss") - rss < 40_000_000


def test_random_bytes_harm_nobody(serve) -> None:
    server = serve("memcached")
    for size in (1, 10, 1000, 100_000):
        for _ in range(10):
            with server.connect() as client:
                try:
                    client.sendall(os.urandom(size))
                    client.shutdown(socket.SHUT_WR)
                    while client.recv(65536):
                        pass
                except OSError:
                    pass
    assert server.get("/").status_code == 200
    wait_until(lambda: server.metric("lab_connections_open") == 0)


def test_taken_port_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = subprocess.run(
            [sys.executable, "-m", "services", "reuseport", "--port", str(taken.getsockname()[1]), "--admin-port", "0"],
            capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


def test_counters_stay_monotonic_under_a_kill(serve) -> None:
    server = serve("nginx", "--workers", "2")
    seen: list[float] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            try:
                plain_http.get(server.url, timeout=2)
            except httpx.HTTPError:
                continue

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(20):
        seen.append(server.metric("lab_requests_total"))
        if turn == 5:
            os.kill(server.state()["workers"][0]["pid"], signal.SIGKILL)
        time.sleep(0.05)
    stop.set()
    for thread in threads:
        thread.join()
    assert seen == sorted(seen)
    assert seen[-1] > seen[0]


def test_stalled_worker_process_does_not_stall_main(serve) -> None:
    server = serve("memcached", "--worker-kind", "process", "--workers", "2", "--backlog", "1024", "--drain", "0.5")
    blocker = server.connect()
    blocker.sendall(b"GET /work?block=20s HTTP/1.1\r\nHost: x\r\n\r\n")
    wait_for_busy(server)
    clients = [server.connect() for _ in range(800)]  # half of them for the stalled one: more than its channel holds
    wait_until(lambda: server.metric("lab_connections_closed_total", reason="queue_full") > 0, what="refusals")
    wait_until(lambda: server.metric("lab_accept_queue_length") == 0, what="an empty accept queue")
    assert len(clients) == 800


def test_worker_that_was_asked_to_end_is_replaced(serve) -> None:
    server = serve("memcached", "--worker-kind", "process", "--workers", "2")
    victim = server.state()["workers"][0]
    os.kill(victim["pid"], signal.SIGTERM)
    wait_until(lambda: successor(server, victim) not in (None, victim["pid"]), what="a successor")
    assert server.metric("lab_worker_restarts_total") == 1


def test_next_head_has_a_deadline_of_its_own(serve) -> None:
    server = serve("nodejs", "--header-timeout", "2")
    with server.connect() as client:
        for _ in range(30):  # every read ends in the middle of a head
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTT")
            assert read_response(client).startswith(b"HTTP/1.1 200")
            client.sendall(b"P/1.1\r\nHost: x\r\n\r\nGET / HT")
            assert read_response(client).startswith(b"HTTP/1.1 200")
            time.sleep(0.1)
            client.sendall(b"TP/1.1\r\nHost: x\r\n\r\n")
            assert read_response(client).startswith(b"HTTP/1.1 200")
