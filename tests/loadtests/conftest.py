"""A small HTTP and memcached server to load, and Locust as a process: importing it would patch every socket here."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from support.stack import free_ports

from lab.settings import CHECKOUT

DEADLINE_SECONDS = 30.0


@dataclass
class StandIn:
    """What the stand-in was asked: connections, paths, and the keys of the POSTs that it applied."""

    port: int = 0
    connections: int = 0
    paths: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)
    idempotent: bool = True
    status: int = 200
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def handler_for(stand_in: StandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # one segment an answer: two would wait for each other (Nagle, delayed ACK)

        def setup(self):
            super().setup()
            with stand_in.lock:
                stand_in.connections += 1

        def do_GET(self):
            with stand_in.lock:
                stand_in.paths.append(self.path)
                counted = stand_in.counters.get(self.path, 0)
            self.answer(f"{counted}\n" if self.path.startswith("/counters/") else "hello\n")

        def do_PUT(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer("stored\n")

        def do_POST(self):
            key = self.headers["Idempotency-Key"]
            with stand_in.lock:
                if not (stand_in.idempotent and key in stand_in.keys):
                    stand_in.counters[self.path] = stand_in.counters.get(self.path, 0) + 1
                stand_in.keys.append(key)
            self.answer("counted\n")

        def answer(self, text):
            body = text.encode()
            self.send_response(stand_in.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):  # a client that hung up before its answer is part of the test
                self.wfile.write(body)

        def log_message(self, *_):
            pass

        def handle(self):
            with contextlib.suppress(OSError):
                super().handle()

    return Handler


@pytest.fixture
def stand_in():
    state = StandIn()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_for(state))
    server.daemon_threads = True
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


class Locust:
    """One Locust process of the lab's locustfile."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        (self.metrics_port,) = free_ports(1)
        self.result_file = folder / f"result-{self.metrics_port}.json"
        self.log = folder / f"log-{self.metrics_port}"
        command = [sys.executable, "-m", "locust", "-f", str(CHECKOUT / "loadtests" / "locustfile.py")]
        command += ["--metrics-port", str(self.metrics_port), "--result-file", str(self.result_file)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("LOCUST_", "LAB_"))}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([*command, *arguments], stdout=log, stderr=log, cwd=folder, env=environment)

    def metrics(self, port: int = 0) -> str:
        return httpx.get(f"http://127.0.0.1:{port or self.metrics_port}/metrics", trust_env=False).text

    def wait_for(self, condition, port: int = 0) -> str:
        """The first exposition for which `condition` holds."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        text = ""
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError):
                text = self.metrics(port)
                if condition(text):
                    return text
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError(f"never so: {text}\n{self.log.read_text()}")

    def finish(self) -> int:
        self.process.terminate()
        return self.process.wait(DEADLINE_SECONDS)


@pytest.fixture
def locust(tmp_path):
    started: list[Locust] = []

    def start(*arguments: str) -> Locust:
        started.append(Locust(tmp_path, *arguments))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


@pytest.fixture
def silent_server():
    """Takes connections into its accept queue and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield StandIn(port=listener.getsockname()[1])
