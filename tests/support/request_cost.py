"""Where a request's processor time goes inside the server: `python -m support.request_cost` (PYTHONPATH=.:tests).

Each part of the way of a request is run by itself, on 20,000 requests that all differ, round after round (A B C … A B C …);
the median over the rounds counts. The system calls are real ones on a TCP connection over loopback: `send` contains what
the kernel does for the receiver, as it does in a server. The code is warm here, which in a server it is not between two
system calls: the sum is less than what `lab bench` measures. It writes docs/request_cost.json, and from that the table
in docs/design.md, "What a request costs"; a test holds the two together.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from statistics import median

from lab.measure import environment
from lab.settings import CHECKOUT
from services.apps import Identity, make_application, make_store, open_body
from services.messages import Request
from services.metrics import slots
from services.metrics.sampling import Sampler
from services.net.connection import Connection
from services.net.server_loop import Limits, ServerLoop
from services.protocols import CommonHead, chooser
from services.protocols.http1 import Http1

STORED = CHECKOUT / "docs" / "request_cost.json"
PAGE = CHECKOUT / "docs" / "design.md"
BEGIN, END = "<!-- cost:begin -->\n", "<!-- cost:end -->"
REQUESTS = 20_000
SYSTEM_CALLS = 2_000
ROUNDS = 15
LONG = 3600.0
HEAD = (
    "GET /?n={n} HTTP/1.1\r\nHost: 127.0.0.1:8001\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) bench/1\r\n"
    "Accept: text/html,application/json;q=0.9\r\nAccept-Encoding: gzip, deflate, br\r\nCookie: session={n}; theme=dark\r\n"
    "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nX-Request-Start: {n}\r\n\r\n"
)
Part = Callable[[], None]


class Wire:
    """A socket without a kernel: gives one request after the other, and takes every response whole."""

    def __init__(self) -> None:
        self.requests: Iterator[bytes] = iter(())

    def recv(self, _most: int, _flags: int) -> bytes:
        return next(self.requests)

    def send(self, data: bytes, _flags: int) -> int:
        return len(data)

    def fileno(self) -> int:
        return -1


class Unwatching(ServerLoop):
    """A loop whose connections are called by hand."""

    def watch(self, *_: object) -> None:
        pass


def parts() -> dict[str, Part]:
    """Each part, to be run once on all requests; "ready" is the whole way but for the system calls."""
    data = [HEAD.format(n=number).encode() for number in range(REQUESTS)]
    head = CommonHead(b"nodejs", b"main")
    handle = make_application(
        Identity("nodejs", "main"), make_store("memory", None, {}), {}, lambda _outcome: None, lambda: True
    )
    protocol = Http1(head, open_body)
    requests = [Request("GET", f"/?n={number}".encode(), data[number]) for number in range(REQUESTS)]
    response = handle(requests[0])
    wire = Wire()
    connection = connect(wire, head, handle)

    def whole() -> None:
        wire.requests = iter(data)
        for _ in data:
            connection.ready(1)
            connection._loop.take_up()

    def nothing() -> None:
        wire.requests = iter(data)
        for _ in data:
            wire.recv(1, 1)
            wire.send(b"", 1)

    return {
        "ready": whole,
        "wire": nothing,
        "parse": lambda: call(protocol.receive, data),
        "handle": lambda: call(handle, requests),
        "encode": lambda: call(lambda request: protocol.encode(request, response), requests),
    }


def connect(wire: Wire, head: CommonHead, handle: object) -> Connection:
    block = slots.Slots(1).main
    loop = Unwatching(
        block, Sampler(block, "1000000000"), handle, chooser("http1", head, open_body),
        Limits(LONG, LONG, LONG, LONG, LONG, 1), lambda _now: None, lambda: 1,
    )  # fmt: skip
    loop.sampler.gap = 1 << 29
    connection = Connection(wire)
    connection.begin(loop, None)
    return connection


def call(function: Callable[[object], object], arguments: list) -> None:
    for argument in arguments:
        function(argument)


def system_calls() -> float:
    """µs that one `recv` and one `send` take, on loopback."""
    request, response = HEAD.format(n=1).encode(), bytes(200)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    with client, server:
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        spent = 0
        for _ in range(SYSTEM_CALLS):
            client.sendall(request)
            began = time.thread_time_ns()
            server.recv(65536, socket.MSG_DONTWAIT)
            server.send(response, socket.MSG_DONTWAIT)
            spent += time.thread_time_ns() - began
            client.recv(65536)
    return spent / SYSTEM_CALLS / 1e3


def microseconds(part: Part) -> float:
    began = time.thread_time_ns()
    part()
    return (time.thread_time_ns() - began) / REQUESTS / 1e3


def measure() -> dict[str, object]:
    """Median µs a request by part, and where it was measured."""
    rounds = [
        {"system": system_calls()} | {name: microseconds(part) for name, part in parts_made.items()}
        for parts_made in [parts()] * ROUNDS
    ]
    figures = {name: median(figures[name] for figures in rounds) for name in rounds[0]}
    inside = figures["parse"] + figures["handle"] + figures["encode"]
    return {
        "environment": environment.describe(),
        "rounds": ROUNDS,
        "us_per_request": {
            "`recv` and `send`": figures["system"],
            "parse (llhttp, and the fields that matter)": figures["parse"],
            "route and handle": figures["handle"],
            "encode": figures["encode"],
            "the connection's states, deadline and counters": figures["ready"] - figures["wire"] - inside,
        },
    }


def table(stored: dict) -> str:
    """The stored figures as lines of Markdown."""
    rows, where = stored["us_per_request"], stored["environment"]
    whole = sum(rows.values())
    lines = ["| part of `GET /` on `nodejs` | µs | share |", "|---|---:|---:|"]
    lines += [f"| {name} | {figure:.2f} | {figure / whole:.0%} |" for name, figure in rows.items()]
    lines += [
        f"| all | {whole:.2f} | 100 % |",
        "",
        f"Medians of {stored['rounds']} rounds on requests of eight fields that all differ, each part by itself and with warm",
        f"caches; Python {where['python']}, Linux {where['kernel']}, commit {where['commit']}. `python -m support.request_cost`",
        "with `PYTHONPATH=.:tests` repeats it.",
    ]
    return "\n".join(lines) + "\n"


def shown() -> str:
    """The table that the page holds."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


def main() -> None:
    STORED.write_text(json.dumps(measure(), indent=2) + "\n", encoding="utf-8")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(
        before + BEGIN + table(json.loads(STORED.read_text(encoding="utf-8"))) + END + after, encoding="utf-8"
    )


if __name__ == "__main__":
    main()
