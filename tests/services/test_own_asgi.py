"""An ASGI application behind every model and kind of worker: what it holds up when it blocks and when it awaits."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import control, plain_http
from support.servers import Server, end_server, read_head, read_response, run_to_the_end, start_server, wait_until

from lab.peers.process import accepts
from services.options import MODELS

APPLICATION = """
import asyncio, contextlib, os, time

FOLDER = os.path.dirname(__file__)

def note(name, text=""):
    with open(os.path.join(FOLDER, name), "a") as file:
        file.write(text + "\\n")

async def there(name):
    while not os.path.exists(os.path.join(FOLDER, name)):
        await asyncio.sleep(0.01)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    path = scope["path"]
    if path == "/boom":
        raise ValueError("boom")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    if path == "/block":
        note("blocks")
        while not os.path.exists(os.path.join(FOLDER, "gate")):
            time.sleep(0.01)
    elif path == "/await":
        note("awaits")
        await there("door")
    elif path == "/last":
        note("last")
        await there("end")
    elif path == "/gone":
        await receive()
        note("waits")
        note((await receive())["type"])
    elif path == "/reset":
        await receive()
        note("waits for a reset")
        await receive()
        try:
            await send({"type": "http.response.body"})
        except OSError:
            note("reset")
        return
    elif path == "/pieces":
        for number in range(3):
            await asyncio.sleep(0)
            await send({"type": "http.response.body", "body": b"%d\\n" % number, "more_body": True})
    elif path == "/endless":
        with contextlib.suppress(OSError):
            while True:
                await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
        note("ended")
        return
    elif path == "/fails":
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await asyncio.sleep(0)
        raise ValueError("in the middle")
    size, more = 0, path == "/size"
    while more:
        event = await receive()
        size, more = size + len(event["body"]), event["more_body"]
    await send({"type": "http.response.body", "body": f"{size} {scope['client'][0]}".encode() if size else b""})

async def lifespan(receive, send):
    await receive()
    if os.path.exists(os.path.join(FOLDER, "no-database")):
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        return
    note("started")
    await send({"type": "lifespan.startup.complete"})
    await receive()
    note("shut-down")
    await send({"type": "lifespan.shutdown.complete"})
"""
ROWS = [(model.name, kind) for model in MODELS.values() for kind in model.worker_kinds]
BLOCKED_SECONDS = 0.2
"""A response that does not come for so long is held up; on a slow machine it may take longer to come, but not less."""


def ask(server: Server, path: str) -> socket.socket:
    client = server.connect(timeout=30)
    client.sendall(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
    return client


def worker_of(client: socket.socket, path: str = "/") -> bytes:
    """The worker that responds to a request on this connection."""
    client.sendall(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
    return read_response(client).partition(b"X-Worker: ")[2].partition(b"\r\n")[0]


def is_held_up(clients: list[socket.socket]) -> bool:
    return not select.select(clients, [], [], BLOCKED_SECONDS)[0]


def lines(folder: Path, name: str) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return (folder / name).read_text().splitlines()
    return []


def options(folder: Path) -> tuple[str, ...]:
    return ("--app", "own:app", "--app-dir", str(folder))


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "own.py").write_text(APPLICATION)
    return tmp_path


@pytest.fixture
def serve_own(folder) -> Iterator:
    servers = []

    def start(model: str, *more: str) -> Server:
        servers.append(start_server(folder / "log", model, *options(folder), *more))
        return servers[-1]

    yield start
    for server in servers:
        end_server(server)


@pytest.mark.parametrize(("model", "kind"), ROWS)
def test_session(serve_own, folder, model, kind) -> None:
    """All that needs a server, in one: starting nine of them is what takes time."""
    server = serve_own(model, "--worker-kind", kind, "--workers", "2", "--drain", "5")
    bodies_and_errors(server)
    what_awaits_holds_up_nobody(server, folder)
    what_blocks_holds_up_what_the_model_says(server, folder)
    client_that_goes_away_is_noticed(server, folder)
    started = len(lines(folder, "started"))
    assert started == (1 if model == "nodejs" else 2)
    what_awaits_is_finished_in_a_drain(server, folder)
    for client in server.clients:
        client.close()
    assert server.process.wait(30) == 0
    assert len(lines(folder, "shut-down")) == started
    log = server.log.read_text()
    assert log.count("ValueError: boom") == 1
    assert log.count("Traceback") == 1, log


def bodies_and_errors(server: Server) -> None:
    with plain_http.Client(base_url=server.url, timeout=30) as client:
        for size in (3, 2_000_000):
            assert client.post("/size", content=bytes(size)).text == f"{size} 127.0.0.1"
        answer = client.get("/pieces")
        assert answer.text == "0\n1\n2\n"
        assert ("transfer-encoding" in answer.headers) == (server.model != "ramcloud")
        assert client.get("/boom").status_code == 500  # counted below
        assert client.head("/pieces").text == ""
        handshake = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
        assert client.get("/", headers=handshake).status_code == 501
    wait_until(lambda: server.metric("lab_requests_total", code="500") == 1, what="a count")
    pipelined = server.connect(timeout=30)
    pipelined.sendall(b"".join(b"POST /size HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (n, b"x" * n)
                      + b"HEAD /pieces HTTP/1.1\r\nHost: x\r\n\r\n" for n in (1, 2, 3)))  # fmt: skip
    for number in (1, 2, 3):
        assert read_response(pipelined).endswith(b"\r\n\r\n%d 127.0.0.1" % number)
        assert read_head(pipelined).startswith(b"HTTP/1.1 200")


def what_awaits_holds_up_nobody(server: Server, folder: Path) -> None:
    """More requests await than there are workers, and each worker responds to others meanwhile."""
    clients = [ask(server, "/await") for _ in range(6)]
    wait_until(lambda: len(lines(folder, "awaits")) == len(clients), what="all that await")
    workers = {b"main"} if server.model == "nodejs" else {b"0", b"1"}
    seen: set[bytes] = set()
    while seen != workers and not (server.model == "ramcloud" and seen):  # there the last idle worker is asked again
        seen.add(worker_of(server.connect(timeout=30)))
        assert len(server.clients) < 100
    assert not select.select(clients, [], [], 0)[0]
    (folder / "door").touch()
    for client in clients:
        assert read_response(client).startswith(b"HTTP/1.1 200")


def what_blocks_holds_up_what_the_model_says(server: Server, folder: Path) -> None:
    """`time.sleep` in a coroutine blocks its worker: with a loop of its own that is all of its connections."""
    by_worker = defaultdict(list)
    clients = []
    while len(clients) < 40:
        client = server.connect(timeout=30)
        clients.append(client)
        by_worker[worker_of(client)].append(client)
        if server.model in ("nodejs", "ramcloud") and len(clients) == 3:
            break
        if len(by_worker) == 2 and max(map(len, by_worker.values())) >= 2:
            break
    if server.model == "ramcloud":
        blocker, *free, held = *clients, []
        free, held = clients[1:], []
    else:
        mine = max(by_worker.values(), key=len)
        blocker, *held = mine
        free = [client for others in by_worker.values() if others is not mine for client in others]
    blocker.sendall(b"GET /block HTTP/1.1\r\nHost: x\r\n\r\n")
    wait_until(lambda: lines(folder, "blocks"), what="a blocked worker")
    for client in [*held, *free]:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    for client in free:
        assert read_response(client).startswith(b"HTTP/1.1 200")
    assert is_held_up([blocker, *held])
    (folder / "gate").touch()
    for client in (blocker, *held):
        assert read_response(client).startswith(b"HTTP/1.1 200")
    assert held or server.model == "ramcloud"


def client_that_goes_away_is_noticed(server: Server, folder: Path) -> None:
    client = ask(server, "/gone")
    wait_until(lambda: lines(folder, "waits"), what="a request")
    client.close()
    wait_until(lambda: lines(folder, "http.disconnect"), what="a disconnect")
    client = ask(server, "/gone")
    client.shutdown(socket.SHUT_WR)  # it still reads
    assert read_response(client).startswith(b"HTTP/1.1 200")
    assert len(lines(folder, "http.disconnect")) == 2
    client = ask(server, "/reset")
    wait_until(lambda: lines(folder, "waits for a reset"), what="a request")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    wait_until(lambda: lines(folder, "reset"), what="an OSError in the application")


def what_awaits_is_finished_in_a_drain(server: Server, folder: Path) -> None:
    client = ask(server, "/last")
    wait_until(lambda: lines(folder, "last"), what="a request")
    server.signal(signal.SIGTERM)
    wait_until(lambda: not accepts(server.port), what="a drain")
    (folder / "end").touch()
    assert read_response(client).startswith(b"HTTP/1.1 200")


def test_failure_in_the_middle_closes_without_a_last_chunk(serve_own) -> None:
    server = serve_own("nginx", "--workers", "1")
    client = ask(server, "/fails")
    read_head(client)
    received = b""
    while data := client.recv(65536):
        received += data
    assert received == b"3\r\none\r\n"
    wait_until(lambda: server.metric("lab_connections_closed_total", reason="error") == 1, what="a close")


def test_slow_client_holds_the_application_up_and_its_end_ends_it(serve_own, folder) -> None:
    server = serve_own("nodejs")
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.connect(("127.0.0.1", server.port))
        client.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        client.recv(1, socket.MSG_PEEK)
        sent = [-1.0, 0.0]
        while sent[-2] != sent[-1]:  # until the buffers are full
            assert not lines(folder, "ended")
            select.select([], [], [], 0.1)
            sent.append(server.metric("lab_bytes_total", direction="out"))
        assert sent[-1] < 20_000_000
    wait_until(lambda: lines(folder, "ended"), what="an OSError in the application")


def test_startup_that_fails_ends_the_server_with_a_line(folder) -> None:
    (folder / "no-database").touch()
    for model in ("nginx", "nodejs"):
        done = refusal_of(model, folder)
        assert "--app own:app: its startup failed: no database\n" in done


def test_change_after_which_the_application_does_not_start_says_why(serve_own, folder) -> None:
    state = folder / "state"
    serve_own("nodejs", "--state-dir", str(state))
    (folder / "no-database").touch()
    assert "its startup failed: no database" in control.change(state, backlog=101)["error"]


def test_main_that_has_imported_the_application_forks_no_cluster(serve_own, folder) -> None:
    state = folder / "state"
    server = serve_own("nodejs", "--state-dir", str(state))
    assert "main has imported the application" in control.change(state, cluster=2)["error"]
    assert server.get("/").status_code == 200


def refusal_of(model: str, folder: Path) -> str:
    done = run_to_the_end(model, "--port", "0", "--admin-port", "0", *options(folder))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    return done.stderr


def test_worker_that_dies_fails_the_requests_that_await_there(serve_own, folder) -> None:
    server = serve_own("ramcloud", "--worker-kind", "process", "--workers", "1")
    clients = [ask(server, "/await") for _ in range(3)]
    wait_until(lambda: len(lines(folder, "awaits")) == 3, what="all that await")
    worker = next(worker["pid"] for worker in server.state()["workers"])
    os.kill(worker, 9)
    for client in clients:
        assert client.recv(1) == b""
    assert server.get("/").status_code == 200


@pytest.mark.parametrize(("model", "kind"), [("nodejs", "process"), ("nginx", "thread"), ("ramcloud", "thread")])
def test_change_of_options_ends_one_loop_and_begins_another(serve_own, folder, model, kind) -> None:
    state = folder / "state"
    server = serve_own(model, "--worker-kind", kind, "--workers", "2", "--state-dir", str(state))
    loops = 1 if model == "nodejs" else 2

    def change(backlog: int) -> int:
        """Change an option, have an application respond, and return how many descriptors there are then."""
        assert "error" not in control.change(state, backlog=backlog)
        assert server.get("/pieces").text == "0\n1\n2\n"
        return len(list(Path(f"/proc/{server.pid}/fd").iterdir()))

    at_first = change(100)
    change(101)
    assert change(102) < at_first + 3  # a loop has three; a connection may close late
    assert len(lines(folder, "started")) == 4 * loops
    assert len(lines(folder, "shut-down")) == 3 * loops
    assert "ERROR" not in server.log.read_text()
