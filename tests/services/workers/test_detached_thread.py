"""A thread worker that is stuck in a request while options change: nothing of its successors' is touched when it is back."""

from __future__ import annotations

import os
import resource
import socket
import time
from contextlib import closing
from pathlib import Path

import pytest
from support.control import change, connect
from support.servers import occupy, wait_until

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
STUCK_SECONDS = 2
STUCK = b"GET /work?block=%ds HTTP/1.1\r\nHost: x\r\n\r\n" % STUCK_SECONDS


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def states(server) -> dict[str, str]:
    return {worker["worker"]: worker["state"] for worker in server.state()["workers"]}


@pytest.mark.parametrize(("model", "option"), [
    ("memcached", {"assign": "least-connections"}),
    ("ramcloud", {"dispatch": "request-fifo"}),
    ("nginx", {"wakeup": "herd"}),
    ("reuseport", {"backlog": 77}),
])  # fmt: skip
def test_its_successor_serves_on(serve, tmp_path, model, option) -> None:
    server = serve(model, "--worker-kind", "thread", "--workers", "2", "--drain", "0.3", "--state-dir", str(tmp_path))
    before = threads(server.pid)
    stuck = occupy(server, STUCK, workers=2)
    assert "options" in change(tmp_path, **option)
    for _ in range(10):
        with server.connect() as client:
            assert b" 200 " in server.ask(GET, client)[:20]
    wait_until(lambda: threads(server.pid) == before, 20, what="the end of the outlived threads")
    assert set(states(server).values()) <= {"idle", "busy"}
    for _ in range(10):
        with server.connect() as client:
            assert b" 200 " in server.ask(GET, client)[:20]
    assert server.get("/healthz").status_code == 200
    for client in stuck:  # some waited in the kernel's queue, and are the successor's
        client.close()
    wait_until(lambda: server.metric("lab_connections_open") == 0, what="the end of every connection")


def test_nobody_gets_its_wakeups(serve, tmp_path) -> None:
    server = serve(
        "ramcloud", "--workers", "16", "--worker-kind", "thread", "--drain", "0.2", "--state-dir", str(tmp_path)
    )
    before = threads(server.pid)
    occupy(server, STUCK, workers=16)
    assert change(tmp_path, workers=1)["options"]["workers"] == 1
    clients = [server.connect() for _ in range(40)]
    for client in clients:
        assert b" 200 " in server.ask(GET, client)[:20]
    wait_until(lambda: threads(server.pid) == before - 15, 20, what="the end of the outlived threads")
    for client in clients:
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(8)


def test_control_client_without_a_descriptor_left_costs_nothing(serve, tmp_path) -> None:
    server = serve(
        "nodejs", "--state-dir", str(tmp_path), preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    )
    clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(80)]
    wait_until(lambda: server.metric("lab_accept_errors_total", errno="EMFILE") > 0, what="no descriptor left")
    with closing(connect(tmp_path)) as control:
        control.sendall(b'{"set": {"backlog": 55}}\n')
        began = cpu_seconds(server.pid)
        time.sleep(2)
        assert cpu_seconds(server.pid) - began < 0.5
        for client in clients:
            client.close()
        control.settimeout(20)
        assert b'"backlog": 55' in control.recv(65536)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
