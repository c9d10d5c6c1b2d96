"""Servers whose standard input, output or error is closed: they start, serve and replace workers all the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from support import plain_http
from support.control import change
from support.servers import Server, end_server, free_ports, wait_until

TIMES = 20
CLOSE = {"stdin": "<&-", "stdout": ">&-", "stderr": "2>&-", "all three": "<&- >&- 2>&-"}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """`start(redirection, "nginx", ...)`: a server that a shell starts so, with its state in `tmp_path`."""
    servers: list[Server] = []

    def start_so(redirection: str, model: str, *options: str, **popen: object) -> Server:
        port, admin = free_ports()
        words = [sys.executable, "-m", "services", model, "--port", str(port), "--admin-port", str(admin)]
        words += ["--state-dir", str(tmp_path / "state"), *options]
        log = tmp_path / "log"
        with log.open("w") as errors:
            process = subprocess.Popen(
                ["/bin/sh", "-c", f'exec "$@" {redirection}', "sh", *words],
                **{"stdout": subprocess.PIPE, "stderr": errors, "text": True, **popen},
            )
        server = Server(process, model, port, f"http://127.0.0.1:{admin}", log)
        servers.append(server)
        wait_until(lambda: is_healthy(server), 15, "a server")
        return server

    yield start_so
    for server in servers:
        server.process.stdout = server.process.stdout or open(os.devnull)  # noqa: SIM115, PTH123
        end_server(server)


def is_healthy(server: Server) -> bool:
    assert server.process.poll() is None, server.log.read_text()
    try:
        return (
            plain_http.get(f"{server.admin}/healthz").status_code == plain_http.get(f"{server.url}/").status_code == 200
        )
    except httpx.HTTPError:
        return False


def descriptors(server: Server) -> dict[str, int]:
    """Return how many of each kind main holds: `socket:[`, `anon_inode:[eventfd`, ..."""
    found: dict[str, int] = {}
    for link in Path(f"/proc/{server.pid}/fd").iterdir():
        kind = str(link.readlink()).rstrip("]0123456789")  # socket:[12345]
        found[kind] = found.get(kind, 0) + 1
    return found


def kill_worker(server: Server, number: int) -> None:
    victim = server.state()["workers"][0]["pid"]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: server.metric("lab_worker_restarts_total") == number, what="a restart")
    wait_until(lambda: server.state()["workers"][0]["state"] in ("idle", "busy"), what="a successor")


@pytest.mark.parametrize(
    ("closed", "model", "kind"),
    [("stdin", "nginx", "process"), ("stdout", "nginx", "process"), ("stderr", "nginx", "process"),
     ("all three", "ramcloud", "process"), ("all three", "memcached", "thread")],
)  # fmt: skip
def test_closed_stream_stops_nothing_and_nothing_is_left_behind(start, tmp_path, closed, model, kind) -> None:
    server = start(CLOSE[closed], model, "--worker-kind", kind, "--workers", "1")
    change(tmp_path / "state", drain=5)
    held = descriptors(server)
    for number in range(1, TIMES + 1):
        assert "options" in change(tmp_path / "state", drain=5 + number)
        if kind == "process":
            kill_worker(server, number)
    wait_until(lambda: descriptors(server) == held, what=f"the descriptors of the beginning, {held}")
    assert server.get("/").status_code == 200
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if closed in (name, "all three"):
            assert Path(f"/proc/{server.pid}/fd/{number}").readlink() == Path(os.devnull)


def broken_pipe() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def test_ready_line_that_nobody_reads_is_logged(start) -> None:
    writer = broken_pipe()
    server = start("", "nginx", "--workers", "1", stdout=writer)
    os.close(writer)
    assert "cannot write to stdout (Broken pipe)" in server.log.read_text()
    assert f"nginx ready: service {server.url}" in server.log.read_text()
    server.signal(signal.SIGTERM)
    assert server.process.wait(10) == 0


def test_worker_is_replaced_though_nobody_reads_the_log(start) -> None:
    writer = broken_pipe()
    server = start("", "nginx", "--workers", "1", stderr=writer)
    os.close(writer)
    for number in range(1, 4):
        kill_worker(server, number)
    assert server.get("/").status_code == 200
