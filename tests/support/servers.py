"""Real servers for the tests of `services`: started as a user would, found by the line they print."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from support import plain_http

READY = re.compile(
    r"(?P<model>\w+) ready: service http://(?P<host>[^:]+):(?P<port>\d+)( admin (?P<admin>\S+))? pid (?P<pid>\d+)"
)
START_SECONDS = 15


@dataclass
class Server:
    process: subprocess.Popen[str]
    model: str
    port: int
    admin: str
    log: Path
    clients: list[socket.socket] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self.process.pid

    def connect(self, timeout: float = 10.0) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port), timeout=timeout)
        self.clients.append(client)
        return client

    def ask(self, data: bytes, client: socket.socket | None = None) -> bytes:
        """Send, and read one HTTP response with a Content-Length."""
        client = client or self.connect()
        client.sendall(data)
        return read_response(client)

    def get(self, path: str, **options: object) -> httpx.Response:
        return plain_http.get(self.url + path, timeout=15, **options)

    def state(self) -> dict:
        with urllib.request.urlopen(self.admin + "/state", timeout=5) as answer:
            return json.load(answer)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the series of this name that carry these labels."""
        from prometheus_client.parser import text_string_to_metric_families

        text = plain_http.get(self.admin + "/metrics", timeout=5).text
        samples = [s for family in text_string_to_metric_families(text) for s in family.samples if s.name == name]
        assert samples, f"no series {name}"
        return sum(s.value for s in samples if labels.items() <= s.labels.items())

    def per_worker(self, name: str) -> dict[str, float]:
        from prometheus_client.parser import text_string_to_metric_families

        text = plain_http.get(self.admin + "/metrics", timeout=5).text
        return {
            s.labels["worker"]: s.value
            for family in text_string_to_metric_families(text)
            for s in family.samples
            if s.name == name and s.labels["worker"] != "main"
        }

    def descendants(self) -> list[int]:
        return children_of(self.pid)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)


def children_of(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(FileNotFoundError):
            for child in (task / "children").read_text().split():
                found += [int(child), *children_of(int(child))]
    return found


def alive(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def read_response(client: socket.socket) -> bytes:
    """One HTTP response, by its Content-Length, and nothing of the next; what came until then if the server closes."""
    head = read_head(client)
    size = re.search(rb"(?i)content-length: (\d+)", head)
    left = int(size[1]) if size else 0
    body = b""
    while len(body) < left and (part := client.recv(left - len(body))):
        body += part
    return head + body


def read_head(client: socket.socket) -> bytes:
    """To the blank line; what lies behind it stays in the socket."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        seen = head + client.recv(65536, socket.MSG_PEEK)
        end = seen.find(b"\r\n\r\n")
        if seen == head:
            break
        head += client.recv((end + 4 if end >= 0 else len(seen)) - len(head))
    return head


def free_ports() -> tuple[int, int]:
    """Return two ports that are free now."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        return one.getsockname()[1], two.getsockname()[1]


def wait_until(
    condition: Callable[[], object], seconds: float = 10.0, what: str = "the condition", every_seconds: float = 0.01
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds} s"
        time.sleep(every_seconds)


def wait_until_asleep(pids: list[int]) -> None:
    """Until every thread of these processes waits for something: idle, with nothing left to do of what came before."""
    wait_until(lambda: all(map(is_asleep, pids)), what="sleep", every_seconds=0.0005)


def is_asleep(pid: int) -> bool:
    stats = (task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/stat"))
    return all(stat.rpartition(")")[2].split()[0] == "S" for stat in stats)


def at_work(server: Server) -> list[dict]:
    """The workers that are executing: after a second "busy" is called "stalled"."""
    return [worker for worker in server.state()["workers"] if worker["state"] in ("busy", "stalled")]


def wait_for_busy(server: Server, number: int = 1) -> list[dict]:
    """The workers that are at work, once there are so many."""
    found: list[dict] = []

    def are_busy() -> bool:
        found[:] = at_work(server)
        return len(found) == number

    wait_until(are_busy, what=f"{number} busy workers")
    return found


def occupy(server: Server, request: bytes, workers: int) -> list[socket.socket]:
    """Ask on one connection after the other, until so many are at work; who gets a connection may be a matter of luck."""
    clients: list[socket.socket] = []
    while (busy := len(at_work(server))) < workers:
        assert len(clients) < 64, "there is somebody who gets nothing"
        clients.append(server.connect())
        clients[-1].sendall(request)
        patience = time.monotonic() + 0.1
        while len(at_work(server)) == busy and time.monotonic() < patience:
            time.sleep(0.005)
    return clients


def keep_busy(server: Server, client: socket.socket, seconds: float = 0.5) -> float:
    """Give a worker of an idle server a request to be at work on for so long; the earliest moment at which it can end.

    Where the machine is so busy that it is done before anybody saw it begin, another follows, twice as long.
    """
    while True:
        assert seconds < 30, "no worker was ever seen at work"
        wait_for_busy(server, 0)  # of what came before, which may have been answered but not counted
        began = time.monotonic()
        client.sendall(b"GET /work?block=%dms HTTP/1.1\r\nHost: x\r\n\r\n" % (seconds * 1000))
        while not select.select([client], [], [], 0.01)[0]:
            if at_work(server):
                return began + seconds
        read_response(client)
        seconds *= 2


AS_A_MODULE = ("-m", "services")


def start_server(
    folder: Path, model: str, *options: str, program: tuple[str, ...] = AS_A_MODULE, **popen: object
) -> Server:
    """Start `python -m services`, or another program of Python that becomes a server."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{model}-{time.monotonic_ns()}.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, *program, model, "--port", "0", "--admin-port", "0", *options],
            stdout=subprocess.PIPE, stderr=errors, text=True, **popen,
        )  # fmt: skip
    line = process.stdout.readline()
    ready = READY.match(line)
    if not ready:
        process.kill()
        process.wait()
    assert ready, f"not ready: {line!r}\n{log.read_text()}"
    return Server(process, model, int(ready["port"]), ready["admin"] or "", log)


def run_to_the_end(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services", *arguments],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        **options,
    )


def refusal(*arguments: str, **options: object) -> str:
    """Return what a server says that refuses to start: one line."""
    done = run_to_the_end(*arguments, **options)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
    return done.stderr


def end_server(server: Server) -> None:
    for client in server.clients:
        client.close()
    family = [server.pid, *server.descendants()]
    if server.process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(server.pid, signal.SIGCONT)
        server.signal(signal.SIGTERM)
        try:
            server.process.wait(5)
        except subprocess.TimeoutExpired:
            server.signal(signal.SIGTERM)
            server.process.wait(5)
    server.process.stdout.close()
    wait_until(lambda: not any(alive(pid) for pid in family), 5, f"the end of every process of {server.model}")
