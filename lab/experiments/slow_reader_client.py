"""Clients that ask for much and read nothing: what does that cost the server, and the other clients?"""

from __future__ import annotations

import contextlib
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lab.harness.checks import between, shown
from lab.harness.experiment import Check, Control, Experiment, Finding
from lab.harness.observation import LITTLES_LAW, Arm, Observation, Quantity
from lab.harness.trial import Server
from lab.load.plan import Stream
from lab.measure import processes
from lab.measure.summary import overlap
from lab.peers.process import Peer, launched, wait_until_accepting
from lab.sandbox.sockets import unsent_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.harness.experiment import Results
    from lab.harness.trial import Trial

SLOW_CLIENTS = 8
ASKED_BYTES = 16 << 20
"""By each: far more than all buffers together hold."""
RECEIVE_BUFFER_BYTES = 16 * 1024
SEND_BUFFER_BYTES = 256 * 1024
MOST_GROWTH_BYTES = 1 << 20
"""A slow client. Our servers hold one piece of an answer (64 KiB); the rest is room for Python."""
SETTLE_SECONDS = 0.5
PEER_PORT = 8000

WORK_MILLISECONDS = 1
WORK_PATH, RATE = f"/work?block={WORK_MILLISECONDS}ms", 50
"""The other clients': work that sleeps, at even gaps, so that neither a busy machine nor chance makes a queue."""
QUICK_SECONDS, SECONDS = 2.0, 3.0
WARM_UP_SECONDS = 0.3
CPU = "server cpu, of a core"
MOST_CPU_PERCENT = 1.0
"""More than alone: some microseconds of each of the others' requests, or a hundredth of a loop that never sleeps."""
MOST_P50_MILLISECONDS, MOST_P99_MILLISECONDS = 0.25, float(WORK_MILLISECONDS)
"""Later than alone: a quarter of one request's work in the middle, and one request's work at the end."""
ENOUGH_PAIRS = 5
"""With fewer, a difference of a few requests' work may be the machine's and decides nothing."""
SMALL_MILLISECONDS = 5.0
BESIDE = {
    "working": Stream("beside", "/work?block=2ms"),
    "computing": Stream("beside", "/work?cpu=1ms", rate=30, poisson=False),
}
"""Of the controls: one that asks for work again and again, and one whose work takes three hundredths of a core."""

BUFFER = "Linux, socket(7): SO_SNDBUF; tcp(7): tcp_wmem"
PRESSURE = "send(2): EAGAIN where the message does not fit; epoll(7): told when there is room again"


def trial(trial: Trial) -> Observation:
    """Some clients at a low rate, and beside them those that do not read."""
    observation = Observation()
    behaviour = trial.parameter("beside")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serving(trial))
        pids = processes.tree(server.peer.pid)
        warm_up(trial, server.address)
        time.sleep(SETTLE_SECONDS)  # a server that has just started still loads what it needs first when it is asked
        before = processes.pss_bytes(pids)
        if behaviour in {"asleep", "reading"}:
            stack.enter_context(slow_clients(trial, server.address, reading=behaviour == "reading"))
        time.sleep(SETTLE_SECONDS)
        grown = processes.pss_bytes(pids) - before
        others = Stream("others", WORK_PATH, connections=4, rate=RATE, poisson=False)
        beside = [BESIDE[behaviour]] if behaviour in BESIDE else []
        seconds = QUICK_SECONDS if trial.quick else SECONDS
        cpu_before, since = processes.cpu_seconds(pids), time.monotonic()
        load = trial.load(server, others, *beside, seconds=seconds, warm_up_seconds=WARM_UP_SECONDS)
        cpu = (processes.cpu_seconds(pids) - cpu_before) / (time.monotonic() - since)
        connections = sorted(unsent_bytes(trial.server, server.address[1]))
    unsent = [held for held in connections if held] or [0]
    figures = load.quantities("others")
    if trial.quick:
        figures.pop(LITTLES_LAW, None)  # of so few requests, one at the edge is most of its tolerance
    observation.latencies |= load.latencies("others", "others")
    observation.metrics |= figures | {
        "slow clients": Quantity(len(unsent) if unsent[0] else 0),
        "least unsent": Quantity(unsent[0], "B"),
        "most unsent": Quantity(unsent[-1], "B"),
        CPU: Quantity(cpu * 100, "%"),
        "memory grown": Quantity(grown / SLOW_CLIENTS, "B"),
    }
    return observation


@contextlib.contextmanager
def serving(trial: Trial) -> Iterator[Server]:
    """The arm's model, or the server without back-pressure."""
    if trial.arm.model:
        with trial.serving() as server:
            yield server
        return
    address = (trial.server.address, PEER_PORT)
    words = [sys.executable, "-m", "lab.peers.unbounded", address[0], str(PEER_PORT), str(ASKED_BYTES)]
    with tempfile.TemporaryDirectory() as name, trial.server.entered():
        folder = Path(name)
        with launched(words, folder, trial.server_cpus) as process:
            wait_until_accepting("unbounded", process, PEER_PORT, folder, address[0])
            yield Server(Peer("unbounded", PEER_PORT, process.pid, folder, host=address[0]), trial.server)


def warm_up(trial: Trial, address: tuple[str, int]) -> None:
    """One request: the memory that the first one takes is nobody's fault."""
    with trial.connect(address) as client:
        client.sendall(f"GET {WORK_PATH} HTTP/1.1\r\nHost: lab\r\n\r\n".encode())
        read(client, 1)


@contextlib.contextmanager
def slow_clients(trial: Trial, address: tuple[str, int], *, reading: bool) -> Iterator[None]:
    """Meanwhile clients that have asked for much, and have read none of it, or all."""
    request = f"GET /stream?bytes={ASKED_BYTES} HTTP/1.1\r\nHost: lab\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        for _ in range(SLOW_CLIENTS):
            client = stack.enter_context(trial.client.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            client.connect(address)
            client.sendall(request)
            if reading:
                read(client, ASKED_BYTES)
        yield


def read(client: socket.socket, least_bytes: int) -> None:
    """Read so much."""
    while least_bytes > 0 and (data := client.recv(1 << 20)):
        least_bytes -= len(data)


def buffers_fill(results: Results) -> Finding:
    """In every trial each slow client's send buffer holds something, and none more than it may."""
    result = results["beside"]
    connected, least, most = (result.summary(name) for name in ("slow clients", "least unsent", "most unsent"))
    filled = connected["min"] == SLOW_CLIENTS and least["min"] > 0 and most["max"] <= SEND_BUFFER_BYTES
    return Finding(f"{shown(connected)} clients, {shown(least)} to {shown(most)}", filled)


def unhurt(results: Results) -> Finding:
    """Neither the middle nor the end of the others' response times is later than alone, by more than it may be."""
    alone, beside = (results[name].summary("p99") for name in ("alone", "beside"))
    end = beside["median"] - alone["median"]
    middle = results["beside"].median("p50") - results["alone"].median("p50")
    same = middle <= MOST_P50_MILLISECONDS and end <= MOST_P99_MILLISECONDS
    text = f"p99 alone {shown(alone)}, beside {shown(beside)}; later by {middle:.2f} ms (p50) and {end:.2f} ms (p99)"
    few = alone["n"] < ENOUGH_PAIRS and max(middle, end) < SMALL_MILLISECONDS
    if not same and middle <= WORK_MILLISECONDS and (overlap(alone, beside) or few):
        return Finding(f"{text}, which these figures do not decide", None)
    return Finding(text, same)


def idle(results: Results) -> Finding:
    """The loop does not turn for connections that wait for room."""
    alone, beside = (results[name].summary(CPU) for name in ("alone", "beside"))
    text = f"alone {shown(alone)}, beside {shown(beside)}"
    return Finding(text, beside["median"] - alone["median"] <= MOST_CPU_PERCENT)


def arm(name: str, beside: str, model: str = "nodejs") -> Arm:
    """One event loop, with send buffers of a known size."""
    sysctls = {"net.ipv4.tcp_wmem": f"4096 65536 {SEND_BUFFER_BYTES}"}
    return Arm(name, model, {}, sysctls, parameters={"beside": beside})


EXPERIMENT = Experiment(
    name="slow-reader-client",
    chapter="reading and sending",
    question="Eight clients ask for 16 MiB each and read nothing. What does the server hold for them, and do other "
    "clients of the same event loop notice?",
    predict="How much memory does the server use for the 128 MiB that nobody takes? What becomes of the other clients' "
    "p99, and of theirs if somebody asked for work instead?",
    arms=(arm("alone", "nobody"), arm("beside", "asleep")),
    trial=trial,
    checks=(
        Check(
            "send-buffer-fills",
            "what a client does not take waits in its connection's send buffer, which is bounded",
            BUFFER,
            f"of each slow client, unsent > 0 and ≤ {SEND_BUFFER_BYTES:,} B in every trial",
            buffers_fill,
            timed=False,
            shows=("R2", "R5"),
        ),
        Check(
            "memory-bounded",
            "a server that writes no more than the buffer takes holds no more than a piece of an answer itself",
            PRESSURE,
            f"PSS grows by at most {MOST_GROWTH_BYTES >> 20} MiB a slow client, of {ASKED_BYTES >> 20} MiB asked",
            between("beside", "memory grown", most=MOST_GROWTH_BYTES),
            timed=False,
        ),
        Check(
            "others-unhurt",
            "beside connections that wait for room, other clients of an event loop are served as before",
            PRESSURE,
            f"median p50 at most {MOST_P50_MILLISECONDS:g} ms later than alone, median p99 at most "
            f"{MOST_P99_MILLISECONDS:g} ms",
            unhurt,
            timed=True,
        ),
        Check(
            "loop-sleeps",
            "a connection that waits for room costs an event loop no turn: it sleeps as it does without",
            PRESSURE,
            f"server's CPU at most {MOST_CPU_PERCENT:g} % of a core more than alone",
            idle,
            timed=True,
        ),
    ),
    controls=(
        Control(
            "they-read", "the eight read all that they asked for", (arm("beside", "reading"),), ("send-buffer-fills",)
        ),
        Control(
            "no-back-pressure",
            "a server that writes without asking whether there is room",
            (arm("beside", "asleep", model=""),),
            ("memory-bounded",),
        ),
        Control(
            "they-work",
            "beside them is a client that asks for 2 ms of work, again and again, instead of bytes",
            (arm("beside", "working"),),
            ("others-unhurt",),
        ),
        Control(
            "they-compute",
            "beside them is a client whose work takes three hundredths of a core",
            (arm("beside", "computing"),),
            ("loop-sleeps",),
        ),
    ),
    repetitions=10,
    quick_repetitions=2,
    explanation="""\
`send()` only copies into the connection's send buffer; the kernel sends as the client's window allows. A client that
does not read closes its window, the buffer fills, and `send()` takes less than it was given, or nothing (EAGAIN).

What the server does then decides. Ours keeps the one piece that did not fit, stops making more of the answer, and asks
`epoll` to be told when there is room again. That is back-pressure: the server makes as much as the client takes. The
kernel holds some hundred kilobytes a connection, the server itself next to nothing, and reads no further request of a
client that does not take its answers.

A server that goes on writing into a list of its own holds all 128 MiB for clients that may never read a byte of it. In
asyncio that takes no more than a `write()` without `drain()`; a few clients with small windows then end the server.

Nobody else notices. The connection that waits for room is an entry in `epoll`'s set which is not ready, and costs the
loop no turn. A blocking `send()` on the same thread would stop all the others, which is why an event loop has
none; what does hurt them is work on the loop, as the control `they-work` shows. In the end a deadline
(`--write-timeout`) closes connections that take nothing for too long.
""",
)
