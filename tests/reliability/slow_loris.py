"""Slow-loris against each model: the others are served, memory is bounded, and afterwards all is back.

Three waves. What the first ones leave in the heap may be what the allocator keeps for the next, and how full it was
differs; what the last adds to that is a leak.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reliability.figures import Check, Figures
from reliability.others import Others, Served
from reliability.serving import anonymous_bytes, open_descriptors, serving, waited_seconds, warm_up
from support.stack import eventually

from lab.load.idle_connections import allow_descriptors
from lab.measure.processes import tree
from services.options import MODELS

SCRIPT = Path(__file__).with_name("slow_client.py")
RATE = 50.0
"""Requests of the others, a second."""
MOST_P99_MS = 2000.0
"""A SYN that a full accept queue has dropped comes again after 1 s (RFC 6298): a request in a hundred may wait for
that, and as long again for all else.
"""
LEAST_SHARE = 0.99
WAVES = 3
MOST_STARVED = 0.1
"""With more, the time that a response takes says more of who else is on the machine."""
HEAD_BYTES = 40
"""Of an attacker's head when it begins."""
OVERHEAD_BYTES = 8192
"""Of a connection, besides what it has sent: its objects take some 2 KiB (README, "idle keep-alive connections") and
its parser 2 more; the other half is room."""
LEAK_BYTES = 256
"""Of a connection that is gone, in the last wave: a tenth of what one takes, so that fewer than one in ten is kept.
"""
NOISE_BYTES = 1 << 20
"""By which the memory of each process differs anyway: who had little of the first wave may have more of the second."""
SETTLE_SECONDS = 40.0


@dataclass(frozen=True)
class SlowLoris(Figures):
    """Figures of one model. Memory is the anonymous memory of all its processes."""

    connections: int
    """Open at once, in the smaller wave."""
    head_bytes: int
    cut: int
    """Connections that the server has ended since their head took too long, and that were opened anew."""
    served: Served
    processes: int
    idle_bytes: int
    starved: float
    """Share of the time that a process of the server was ready to run and waited for a processor, at the most."""
    peak_bytes: list[int]
    """In each wave."""
    after_bytes: list[int]
    descriptors_before: int
    descriptors_after: int
    restarts: int

    @property
    def size(self) -> str:
        """Return how many connections, and what they did."""
        heads = f"heads of {self.head_bytes:,} bytes"
        waited = f"the server waited for a processor {self.starved:.0%} of the time"
        attackers = f"{len(self.peak_bytes)} × {self.connections:,} connections, {heads}"
        return f"{attackers}, {self.cut:,} cut and opened anew; {waited}"

    def checks(self) -> list[Check]:
        """Return the judgements."""
        each = (max(self.peak_bytes) - self.idle_bytes) / self.connections
        noise = NOISE_BYTES * self.processes
        bound = self.head_bytes + OVERHEAD_BYTES + noise / self.connections
        growth = self.after_bytes[-1] - self.after_bytes[-2]
        most = LEAK_BYTES * self.connections + noise
        late = not 0 < self.served.p99_ms <= MOST_P99_MS
        open_before, open_after = self.descriptors_before, self.descriptors_after
        return [
            Check(
                "others are served",
                f"{self.served.share:.2%} of {self.served.requests:,}",
                f"at least {LEAST_SHARE:.0%}",
                self.served.share >= LEAST_SHARE,
            ),
            Check(
                "their p99",
                f"{self.served.p99_ms:,.0f} ms (p50 {self.served.p50_ms:,.1f} ms)",
                f"at most {MOST_P99_MS:,.0f} ms",
                None if late and self.starved > MOST_STARVED else not late,
            ),
            Check("memory a connection", f"{each:,.0f} bytes", f"at most {bound:,.0f}", each <= bound),
            Check(
                "memory that the last wave leaves",
                f"{growth / 2**20:+.1f} MiB",
                f"at most {most / 2**20:.1f}",
                growth <= most,
            ),
            Check("descriptors", f"{open_before} before, {open_after} after", "as before", open_after <= open_before),
            Check("no worker died", str(self.restarts), "0", self.restarts == 0),
        ]


def slow_loris(
    connections: int, seconds: float, header_seconds: float, padding: int = 0, models: tuple[str, ...] = tuple(MODELS)
) -> Iterator[SlowLoris]:
    """Attack each model in WAVES waves of so many seconds; `padding` bytes of each head are sent at once."""
    allow_descriptors(connections // 4 + 256)
    for model in models:
        yield one_model(model, connections, seconds, header_seconds, padding)


def one_model(model: str, connections: int, seconds: float, header_seconds: float, padding: int) -> SlowLoris:
    """Return the figures of one model."""
    with serving(model, "--header-timeout", str(header_seconds), "--workers", "4") as server:
        warm_up(server)
        idle, descriptors = anonymous_bytes(tree(server.pid)), open_descriptors(server)
        peaks, after, cut, held = [], [], 0, []
        began, waited = time.monotonic(), waited_seconds(tree(server.pid))
        with Others(server.port, RATE) as others:
            for _ in range(WAVES):
                with attack(server.port, connections, padding) as seen:
                    peaks.append(anonymous_bytes(tree(server.pid)))
                    time.sleep(seconds)
                cut += seen["cut"]
                held.append(seen["connected"])
                eventually(lambda: server.metric("lab_connections_open") < RATE, SETTLE_SECONDS)
                after.append(anonymous_bytes(tree(server.pid)))
        longest = max(now - waited.get(thread, 0.0) for thread, now in waited_seconds(tree(server.pid)).items())
        starved = longest / (time.monotonic() - began)
        eventually(lambda: open_descriptors(server) <= descriptors, SETTLE_SECONDS)
        return SlowLoris(
            f"{model}, large heads" if padding else model, min(held), HEAD_BYTES + padding, cut, others.served(),
            len(tree(server.pid)), idle, starved, peaks, after, descriptors, open_descriptors(server),
            int(server.metric("lab_worker_restarts_total")),
        )  # fmt: skip


@contextlib.contextmanager
def attack(port: int, connections: int, padding: int) -> Iterator[dict[str, int]]:
    """Have all slow connections open; what they have seen is in the dictionary at the end."""
    seen: dict[str, int] = {}
    words = [sys.executable, str(SCRIPT), str(port), str(connections), str(padding)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        seen |= json.loads(process.stdout.readline())
        yield seen
        said, _ = process.communicate()
        seen |= json.loads(said)
