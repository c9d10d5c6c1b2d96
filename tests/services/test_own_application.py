"""An application of one's own behind every model and kind of worker; and what becomes of one that cannot be imported."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import plain_http
from support.servers import Server, end_server, read_head, refusal, start_server, wait_until

from services.options import MODELS

APPLICATION = '''
import os
from wsgiref.validate import validator

FOLDER = os.path.dirname(__file__)
CLOSED = os.path.join(FOLDER, "closed")
open(os.path.join(FOLDER, f"imported-{os.getpid()}"), "a").close()

class Pieces:
    """Endless or not, slow or not; leaves a file behind when it is closed."""
    def __init__(self, number, size, fails):
        self.left, self.piece, self.fails = number, b"x" * size, fails
    def __iter__(self):
        return self
    def __next__(self):
        if not self.left:
            if self.fails:
                raise ValueError("in the middle")
            raise StopIteration
        self.left -= 1
        return self.piece
    def close(self):
        open(CLOSED, "a").write("closed\\n")

def plain(environ, start_response):
    path, errors = environ["PATH_INFO"], environ["wsgi.errors"]
    if path == "/boom":
        raise ValueError("boom")
    if path == "/errors":
        errors.write("a complaint\\n")
    if path in ("/pieces", "/endless", "/fails"):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return Pieces(-1 if path == "/endless" else 3, 65536 if path == "/endless" else 4, path == "/fails")
    size = 0
    length = int(environ.get("CONTENT_LENGTH") or 0)
    while size < length:
        size += len(environ["wsgi.input"].read(min(65536, length - size)))
    text = f"{os.getpid()} {environ['wsgi.multithread']} {environ['wsgi.multiprocess']} {size} {environ['QUERY_STRING']}"
    text += f" {environ['REMOTE_ADDR']}"
    start_response("201 Created", [("Content-Type", "text/plain"), ("X-Of-The-Application", "café")])
    return [text.encode()]

app = validator(plain)
def unchecked(environ, start_response):  # the validator does not pass on exceptions of close() and of the middle
    return plain(environ, start_response)
number = 7
'''
KINDS = [(model.name, kind, ()) for model in MODELS.values() for kind in model.worker_kinds]
ROWS = [*KINDS, ("nodejs", "process", ("--cluster", "2"))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    (folder / "own.py").write_text(APPLICATION)
    return folder


def of(folder: Path, attribute: str = "app") -> tuple[str, ...]:
    return ("--app", f"own:{attribute}", "--app-dir", str(folder))


@pytest.fixture(scope="module", params=ROWS, ids=lambda row: "-".join([*row[:2], *row[2]]))
def server(request, folder, tmp_path_factory) -> Iterator[tuple[Server, str]]:
    model, kind, extra = request.param
    options = ("--worker-kind", kind, "--workers", "2", "--max-body", "2", *extra, *of(folder))
    server = start_server(tmp_path_factory.mktemp("log"), model, *options)
    yield server, kind
    end_server(server)


def test_every_model_serves_it(server, folder):
    server, kind = server
    main_executes = server.get("/").headers["x-worker"] == "main"
    assert (folder / f"imported-{server.pid}").exists() == (kind == "thread" or main_executes)
    for answer in [server.get("/any%20path?x=1") for _ in range(4)]:
        pid, multithread, multiprocess, size, query, address = answer.text.split(" ")
        assert (answer.status_code, size, query, address) == (201, "0", "x=1", "127.0.0.1")
        assert answer.headers["x-model"] == server.model
        assert answer.headers["x-worker"] in {"main", "0", "1"}
        assert (multithread == "True", multiprocess == "True") == (
            kind == "thread", kind == "process" and int(pid) != server.pid,
        )  # fmt: skip
        assert (int(pid) == server.pid) == (kind == "thread" or answer.headers["x-worker"] == "main")
    with plain_http.Client(base_url=server.url, timeout=20) as client:
        for size in (3, 1_500_000):
            assert client.post("/", content=bytes(size)).text.split()[3] == str(size)
            assert client.post("/", content=iter([bytes(size - 1), b"x"])).text.split()[3] == str(size)
        assert client.head("/").content == b""
        assert client.get("/pieces").content == b"xxxx" * 3
        assert client.get("/boom").status_code == 500
    with server.connect() as client:
        assert server.ask(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2097153\r\n\r\n", client)[9:12] == b"413"
    with server.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n")
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"x")
        head = read_head(client)
        assert head.startswith(b"HTTP/1.1 201 Created\r\n")
        assert b"\r\nX-Of-The-Application: caf\xe9\r\n" in head
    wait_until(lambda: server.metric("lab_requests_total", code="500") == 1, what="a count")
    assert server.metric("lab_requests_total", code="201") >= 9
    log = server.log.read_text()
    assert log.count("ValueError: boom") == 1
    assert log.count("Traceback") == 1


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_failure_in_the_middle_closes_without_a_last_chunk(serve_own, version):
    server = serve_own("nginx", "unchecked")
    with server.connect() as client:
        client.sendall(b"GET /fails HTTP/%b\r\nHost: x\r\n\r\n" % version)
        received = b""
        while data := client.recv(65536):
            received += data
    _, _, body = received.partition(b"\r\n\r\n")
    assert body == (b"4\r\nxxxx\r\n" * 3 if version == b"1.1" else b"xxxx" * 3)
    wait_until(lambda: server.metric("lab_connections_closed_total", reason="error") == 1, what="a close")
    assert "ValueError: in the middle" in server.log.read_text()


@pytest.fixture
def serve_own(folder, tmp_path) -> Iterator:
    servers = []

    def start(model: str, attribute: str = "app", *options: str) -> Server:
        servers.append(start_server(tmp_path, model, *of(folder, attribute), "--workers", "1", *options))
        return servers[-1]

    yield start
    for server in servers:
        end_server(server)


@pytest.mark.parametrize("kind", ["process", "thread"])
def test_client_that_goes_away_closes_the_iterable(serve_own, folder, kind):
    (folder / "closed").unlink(missing_ok=True)
    server = serve_own("nginx", "app", "--worker-kind", kind)
    with server.connect() as client:
        client.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(1)
    wait_until((folder / "closed").exists, what="a close")
    assert server.get("/").status_code == 201


def test_client_that_reads_slowly_holds_the_iterable_up(serve_own):
    server = serve_own("nodejs")
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.settimeout(20)
        client.connect(("127.0.0.1", server.port))
        client.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        client.recv(1, socket.MSG_PEEK)

        def sent() -> float:
            return server.metric("lab_bytes_total", direction="out")

        before = -1.0
        deadline = time.monotonic() + 20
        while (now := sent()) != before:  # until the buffers are full
            assert time.monotonic() < deadline
            before = now
            time.sleep(0.1)
        assert server.get("/").status_code == 201


def test_complaints_and_workers_that_die(serve_own):
    server = serve_own("nginx")
    assert server.get("/errors").status_code == 201
    wait_until(lambda: "worker 0: a complaint" in server.log.read_text(), what="a line in the log")
    os.kill(int(server.get("/").text.split()[0]), 9)
    wait_until(lambda: "starting another" in server.log.read_text(), what="a replacement")
    assert server.get("/").status_code == 201


@pytest.mark.parametrize(("model", "kind"), [("nginx", "process"), ("ramcloud", "thread"), ("nodejs", "process")])
def test_application_that_cannot_be_imported_ends_the_server_with_a_line(folder, model, kind):
    (folder / "broken.py").write_text("x = 1\nx / 0\n")
    ports = ("--port", "0", "--admin-port", "0", "--worker-kind", kind)
    text = refusal(model, *ports, "--app", "broken:app", "--app-dir", str(folder))
    assert text.startswith("--app broken:app cannot be imported: ZeroDivisionError: division by zero (")
    assert text.endswith("broken.py, line 2)\n")


def test_missing_module_is_refused_before_anything_starts(folder):
    assert "no module 'nowhere'" in refusal("nginx", "--app", "nowhere:app", "--app-dir", str(folder))
