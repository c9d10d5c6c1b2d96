"""One worker stands still. Who waits for it?"""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import time
from typing import TYPE_CHECKING

from lab.experiments import theory
from lab.harness.checks import always, between
from lab.harness.experiment import Check, Control, Experiment
from lab.harness.observation import Arm, Observation, Quantity
from lab.harness.trial import RESPONSE_BYTES, TrialError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from lab.harness.trial import Server, Trial

WORKERS = 4
CONNECTIONS = 200
PATIENCE_SECONDS = 1.0
"""Far beyond what an answer takes: who has none by then waits for the worker that stands still."""
REQUEST = b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n"

FOR_GOOD = "stranded for good"
ACCEPTED = "lab_connections_accepted_total"
EXPECTED = CONNECTIONS / WORKERS
MARGIN = 3 * math.sqrt(CONNECTIONS / WORKERS * (1 - 1 / WORKERS))

SHARDING = "nginx.com, Socket Sharding in NGINX 1.9.1: a worker that blocks holds up the connections of its own queue"


def trial(trial: Trial) -> Observation:
    """Stop a worker, connect and ask, and count who is not answered; then let it go on, and count again."""
    with trial.serving() as server:
        workers = [worker for worker in server.state()["workers"] if worker["worker"] != "main"]
        stalled = workers[: trial.parameter("stopped")]
        with stopped([worker["pid"] for worker in stalled]) as go_on:
            before = server.per_worker(ACCEPTED)
            connections = [asking(trial, server) for _ in range(CONNECTIONS)]
            waiting = not_answered(connections)
            none_accepted([worker["worker"] for worker in stalled], before, server.per_worker(ACCEPTED))
            queued = sum(listener["queue"] for listener in server.listeners())
            if trial.parameter("goes on"):
                go_on()
            left = not_answered(waiting)
        for connection in connections:
            connection.close()
    return Observation(
        {
            "stranded": Quantity(len(waiting)),
            "in accept queues meanwhile": Quantity(queued),
            FOR_GOOD: Quantity(len(left)),
        },
        shares={"connections": {"answered": CONNECTIONS - len(waiting), "stranded": len(waiting)}},
    )


@contextlib.contextmanager
def stopped(pids: list[int]) -> Iterator[Callable[[], None]]:
    """These processes stand still, until the end or until the function is called."""

    def go_on() -> None:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)

    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield go_on
    finally:
        go_on()


def none_accepted(stalled: list[str], before: dict[str, float], after: dict[str, float]) -> None:
    """Raises TrialError where a worker that should have stood still has accepted meanwhile."""
    for worker in stalled:
        accepted = after[worker] - before[worker]
        if accepted:
            raise TrialError(
                f"worker {worker} should have stood still and accepted {accepted:.0f} connections: run it again, and "
                "if it stays so, see whether SIGSTOP reached it"
            )


def asking(trial: Trial, server: Server) -> socket.socket:
    """A connection with a request on its way."""
    connection = trial.connect(server.address)
    connection.sendall(REQUEST)
    return connection


def not_answered(connections: list[socket.socket]) -> list[socket.socket]:
    """Those on which nothing comes for a while. Raises TrialError for another answer than 200."""
    poller = select.poll()
    for connection in connections:
        poller.register(connection, select.POLLIN)
    waiting = {connection.fileno(): connection for connection in connections}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while waiting and (seconds := deadline - time.monotonic()) > 0:
        for descriptor, _ in poller.poll(seconds * 1000):
            poller.unregister(descriptor)
            answer = waiting.pop(descriptor).recv(RESPONSE_BYTES)
            if not answer.startswith(b"HTTP/1.1 200 "):
                raise TrialError(f"a connection was answered with {answer[:100]!r}")
    return list(waiting.values())


def arm(name: str, model: str, stopped: int = 1, *, goes_on: bool = True, **options: str) -> Arm:
    """Worker processes, one of which is stopped."""
    options_of_all = {"workers": WORKERS, "worker_kind": "process", "backlog": 4 * CONNECTIONS, **options}
    return Arm(name, model, options_of_all, parameters={"stopped": stopped, "goes on": goes_on})


EXPERIMENT = Experiment(
    name="stalled-worker",
    chapter="models",
    question=f"One of {WORKERS} workers stands still, and {CONNECTIONS} clients connect. How many get no answer?",
    predict="With a queue for each worker, and with one queue for all?",
    arms=(arm("sharded", "reuseport"), arm("shared", "nginx"), arm("shared, exclusive", "nginx", wakeup="exclusive")),
    trial=trial,
    checks=(
        Check(
            "sharded-strands-its-share",
            "the kernel goes on giving the stopped worker's queue its share of all connections",
            SHARDING,
            f"stranded {EXPECTED:.0f} ± {MARGIN:.0f} (three standard deviations)",
            between("sharded", "stranded", EXPECTED - MARGIN, EXPECTED + MARGIN),
            timed=False,
            corrects=theory.KERNEL_BALANCES,
        ),
        Check(
            "shared-strands-none",
            "from one queue, those that run take what the stopped one leaves",
            SHARDING,
            "stranded 0, in every trial",
            always("shared", "stranded", 0, 0),
            timed=False,
            corrects=theory.ONE_LISTENER_A_PORT,
        ),
        Check(
            "exclusive-strands-none",
            "also where one worker is woken for each connection: one that stands still does not wait in the queue",
            "fs/eventpoll.c, ep_poll_callback: an exclusive wakeup counts only where somebody waits in epoll_wait",
            "stranded 0, in every trial",
            always("shared, exclusive", "stranded", 0, 0),
            timed=False,
        ),
        Check(
            "none-for-good",
            "once it goes on, the stopped worker answers all that waited in its queue",
            SHARDING,
            "stranded for good 0, in every trial",
            always("sharded", FOR_GOOD, 0, 0),
            timed=False,
        ),
    ),
    controls=(
        Control(
            "none-stands-still", "every worker runs", (arm("sharded", "reuseport", 0),), ("sharded-strands-its-share",)
        ),
        Control(
            "all-stand-still",
            "no worker runs",
            (arm("shared", "nginx", WORKERS), arm("shared, exclusive", "nginx", WORKERS, wakeup="exclusive")),
            ("shared-strands-none", "exclusive-strands-none"),
        ),
        Control(
            "never-goes-on",
            "the worker is not let go on",
            (arm("sharded", "reuseport", goes_on=False),),
            ("none-for-good",),
        ),
    ),
    # Chance exceeds three standard deviations now and then; the median of several trials hardly ever.
    quick_repetitions=3,
    explanation="""\
A worker may stand still for many reasons: a slow disk, a long computation, a page fault, a debugger. Here it is stopped
by a signal. Its accept queue, if it has one, knows nothing of that: the handshake is the kernel's work and goes on, and
the hash sends one connection in four there. To these clients the server looks connected and dead.

With one queue for all, whoever is free takes the next connection. That is the classical argument for a single queue,
at the bank as in the kernel: nobody waits behind a slow customer while another clerk is idle.

When the worker goes on, so do its connections. If it dies instead, its queue is closed and
all that was in it is reset (see `net.ipv4.tcp_migrate_req`).
""",
)
