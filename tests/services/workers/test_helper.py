"""The admin process: main replaces it when it dies."""

from __future__ import annotations

import os
import signal

import pytest
from support.servers import Server, alive, children_of, read_response, wait_until

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def admin_process(server: Server) -> int:
    workers = {worker["pid"] for worker in server.state()["workers"]}
    return next(pid for pid in children_of(server.pid) if pid not in workers)


@pytest.mark.parametrize(
    ("model", "kind", "options"),
    [("nodejs", "process", []), ("nginx", "process", []), ("ramcloud", "thread", []),
     ("memcached", "thread", ["--store", "sqlite"])],
)  # fmt: skip
def test_killed_admin_process_is_replaced(serve, model, kind, options) -> None:
    server = serve(model, "--worker-kind", kind, "--workers", "2", *options)
    client = server.connect()
    for number in range(1, 3):
        assert server.ask(GET, client).startswith(b"HTTP/1.1 200")
        wait_until(lambda number=number: server.metric("lab_requests_total") == number, what="the count")
        victim = admin_process(server)
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda victim=victim: not alive(victim), what="its end")
        wait_until(lambda: answers(server), what="a successor")
        assert server.metric("lab_requests_total") == number  # nothing is lost
    assert server.log.read_text().count("the admin process died") == 2
    client.sendall(b"PUT /kv/k HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nv")
    assert read_response(client).startswith(b"HTTP/1.1 2")


def answers(server: Server) -> bool:
    try:
        return bool(server.state())
    except OSError:
        return False
