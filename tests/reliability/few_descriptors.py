"""More clients than descriptors: nothing crashes, nothing spins, and service goes on when they leave."""

from __future__ import annotations

import resource
import select
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reliability.figures import Check, Figures
from reliability.others import ask
from reliability.serving import open_descriptors, serving, warm_up
from support.stack import eventually

from lab.load.idle_connections import allow_descriptors
from lab.measure.processes import cpu_seconds, tree
from services.options import MODELS

LIMIT = 64
"""RLIMIT_NOFILE of each of the server's processes."""
MOST_CPU = 0.02
"""Cores a process, while clients are refused: it tries again ten times a second (ACCEPT_PAUSE_SECONDS), which takes a
millisecond, and the admin process is asked twice. A loop that spins takes 1.
"""
LATER = 100
"""Requests after the clients have left."""
SETTLE_SECONDS = 15.0
REQUEST = b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n"


@dataclass(frozen=True)
class FewDescriptors(Figures):
    """Figures of one model."""

    clients: int
    served: int
    """Clients that had a response while all the others were there."""
    descriptors_short: int
    """lab_accept_errors_total{errno="EMFILE"}: times that a process found no descriptor for the next client."""
    dropped: int
    """lab_listener_drops_total: connects that found the accept queue full."""
    seconds: float
    processes: int
    cpu_seconds: float
    """Of all processes in these seconds."""
    died: int
    later_successes: int
    descriptors_before: int
    descriptors_after: int

    @property
    def size(self) -> str:
        """Return how many clients and descriptors."""
        return f"{self.clients:,} clients, {LIMIT} descriptors a process, {self.processes} processes"

    def checks(self) -> list[Check]:
        """Return the judgements."""
        cpu = self.cpu_seconds / self.seconds / self.processes
        refused = f"EMFILE {self.descriptors_short}, queue full {self.dropped}"
        return [
            Check("nothing died", str(self.died), "0", self.died == 0),
            Check("cores a process while clients are refused", f"{cpu:.4f}", f"at most {MOST_CPU}", cpu <= MOST_CPU),
            Check("some are served meanwhile", str(self.served), "at least 1", self.served >= 1),
            Check("refusals are counted", refused, "both above 0", self.descriptors_short > 0 and self.dropped > 0),
            Check(
                "successes when they have left",
                f"{self.later_successes} of {LATER}",
                "all",
                self.later_successes == LATER,
            ),
            Check(
                "descriptors",
                f"{self.descriptors_before} before, {self.descriptors_after} after",
                "as before",
                self.descriptors_after <= self.descriptors_before,
            ),
        ]


def few_descriptors(clients: int, seconds: float, models: tuple[str, ...] = tuple(MODELS)) -> Iterator[FewDescriptors]:
    """Have so many clients at once at each model, and watch it for so many seconds."""
    allow_descriptors(clients + 256)
    for model in models:
        yield one_model(model, clients, seconds)


def one_model(model: str, clients: int, seconds: float) -> FewDescriptors:
    """Return the figures of one model."""
    with serving(model, "--workers", "2", preexec_fn=lower_limit) as server:
        warm_up(server)
        family, descriptors = tree(server.pid), open_descriptors(server)
        held = [connecting(server.port) for _ in range(clients)]
        try:
            eventually(lambda: server.metric("lab_accept_errors_total", errno="EMFILE") > 0, SETTLE_SECONDS)
            served = responses(held)
            cpu, began = cpu_seconds(family), time.monotonic()
            time.sleep(seconds)
            cpu, watched = cpu_seconds(family) - cpu, time.monotonic() - began
            short = server.metric("lab_accept_errors_total", errno="EMFILE")
            dropped = server.metric("lab_listener_drops_total")
        finally:
            for client in held:
                client.close()
        eventually(lambda: ask(("127.0.0.1", server.port)), SETTLE_SECONDS)
        later = sum(ask(("127.0.0.1", server.port)) for _ in range(LATER))
        eventually(lambda: open_descriptors(server) <= descriptors, SETTLE_SECONDS)
        return FewDescriptors(
            model, clients, served, int(short), int(dropped), watched, len(family), cpu,
            len(set(family) - set(tree(server.pid))), later, descriptors, open_descriptors(server),
        )  # fmt: skip


def lower_limit() -> None:
    """Allow this process, and its children, few descriptors."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))


def connecting(port: int) -> socket.socket:
    """Return a client that may still wait for its connection."""
    client = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    client.connect_ex(("127.0.0.1", port))
    return client


def responses(clients: Sequence[socket.socket], seconds: float = 0.5) -> int:
    """Have all send a request, and return how many have a response after so many seconds."""
    poll = select.poll()
    for client in clients:
        try:
            client.send(REQUEST)
        except OSError:  # its connection is not there yet
            continue
        poll.register(client, select.POLLIN)
    deadline, served = time.monotonic() + seconds, set[int]()
    while (left := deadline - time.monotonic()) > 0:
        for fd, _ in poll.poll(left * 1000):
            served.add(fd)
            poll.unregister(fd)
    return len(served)
