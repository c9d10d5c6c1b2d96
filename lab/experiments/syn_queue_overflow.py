"""Clients that ask for connections and never finish the handshake: who else suffers, and what do cookies change?"""

from __future__ import annotations

import contextlib
import platform
import re
import threading
import time
from itertools import cycle
from typing import TYPE_CHECKING

from lab.harness.checks import always, between, shown
from lab.harness.experiment import Check, Control, Experiment, Finding
from lab.harness.observation import Arm, Observation, Quantity
from lab.sandbox.sockets import half_open
from lab.sandbox.wire import Ghost, ghost_addresses, ghost_socket, route_ghosts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.harness.experiment import Results
    from lab.harness.trial import Server, Trial

BACKLOG = 8
"""Also the limit of half-open connections: Linux has one number for both queues."""
HALF_OPEN_PER_SECOND = 100
"""A handful: what matters is that there are always more than the queue holds."""
AHEAD_SECONDS = 0.3
"""Long enough to fill the queue before the first good client comes."""
QUICK_CLIENTS, CLIENTS = 10, 30
PATIENCE_SECONDS = 0.2
"""Far longer than a handshake takes, and shorter than a retry: one SYN each."""
ONE_MORE_SINCE = (6, 14)
"""The kernel that takes backlog + 1 for certain; older ones may have got the change as a fix, or not."""
MOST_HALF_OPEN = "most half-open"
FEW_PERCENT, MOST_PERCENT = 50, 99

CLOUDFLARE = "cloudflare-blog 2018-01-syn-floods"
LENGTH = "Linux, inet_connection_sock.h: inet_csk_reqsk_queue_is_full, full when there are more than the backlog"
FULL = f"{CLOUDFLARE}; Linux, tcp_input.c: tcp_conn_request, tcp_syn_flood_action"


def trial(trial: Trial) -> Observation:
    """Good clients, one after another, beside clients that never ACK."""
    observation = Observation()
    route_ghosts(trial.server, trial.client)
    with trial.serving() as server:
        begun = time.monotonic()
        with flooding(trial, server.address):
            time.sleep(AHEAD_SECONDS)
            clients = QUICK_CLIENTS if trial.quick else CLIENTS
            times = []
            for _ in range(clients):
                times.append(connect_seconds(trial, server))
                now = round(time.monotonic() - begun, 3)
                length = half_open(trial.server, server.address[1])
                observation.series.setdefault("half-open connections", []).append((now, length))
    connected = [seconds for seconds in times if seconds is not None]
    counters = trial.server.counters()
    observation.metrics |= {
        "good clients connected": Quantity(len(connected) / clients * 100, "%"),
        MOST_HALF_OPEN: Quantity(max(length for _, length in observation.series["half-open connections"])),
        **{name: Quantity(counters[name]) for name in COUNTERS},
    }
    if connected:
        observation.metrics["slowest connect"] = Quantity(max(connected) * 1000, "ms")
    return observation


COUNTERS = ("TCPReqQFullDrop", "TCPReqQFullDoCookies", "SyncookiesSent", "SyncookiesRecv", "ListenOverflows")


@contextlib.contextmanager
def flooding(trial: Trial, server: tuple[str, int]) -> Iterator[None]:
    """Meanwhile SYNs from ever new addresses, and never an ACK."""
    stop = threading.Event()

    def flood(rate: int) -> None:
        with ghost_socket(trial.client) as sending:
            for address in cycle(ghost_addresses()):
                if stop.wait(1 / rate):
                    return
                Ghost(sending, (address, 40_000), server).syn()

    rate = trial.parameter("half-open a second")
    thread = threading.Thread(target=flood, args=(rate,), name="flood") if rate else None
    if thread:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        if thread:
            thread.join()


def connect_seconds(trial: Trial, server: Server) -> float | None:
    """Time that a good client takes to connect; None where its only SYN finds no answer."""
    begun = time.monotonic()
    try:
        with trial.connect(server.address, PATIENCE_SECONDS):
            return time.monotonic() - begun
    except TimeoutError:
        return None


def arm(name: str, cookies: int, half_open_per_second: int = HALF_OPEN_PER_SECOND) -> Arm:
    """One event loop that accepts as fast as it can: only the handshakes under way are many."""
    return Arm(
        name,
        "nodejs",
        {"backlog": BACKLOG},
        {"net.ipv4.tcp_syncookies": cookies},
        parameters={"half-open a second": half_open_per_second},
    )


def sent_and_known_again(results: Results) -> Finding:
    """In every trial."""
    sent, known = (results["cookies"].summary(name) for name in ("SyncookiesSent", "SyncookiesRecv"))
    return Finding(f"sent {shown(sent)}, known again {shown(known)}", sent["min"] > 0 and known["min"] > 0)


def nobody_is_dropped(results: Results) -> Finding:
    """Good clients connect, and no SYN was dropped."""
    connected, dropped = (results["cookies"].summary(name) for name in ("good clients connected", "TCPReqQFullDrop"))
    holds = connected["median"] >= MOST_PERCENT and dropped["max"] == 0
    return Finding(f"connected {shown(connected)}, TCPReqQFullDrop {shown(dropped)}", holds)


def least_room(kernel: str) -> int:
    """Half-open connections that a kernel has room for at least: from ONE_MORE_SINCE on, that is the number."""
    version = tuple(map(int, re.findall(r"\d+", kernel)[:2]))
    return BACKLOG + 1 if version >= ONE_MORE_SINCE else BACKLOG


EXPERIMENT = Experiment(
    name="syn-queue-overflow",
    chapter="connections",
    question="Clients send SYNs and never finish their handshakes. What happens to the others, with SYN cookies and "
    "without?",
    predict=f"The backlog is {BACKLOG}. How many connections are half-open at most? What share of good clients "
    "connects within 0.2 s, without cookies and with them?",
    arms=(arm("no cookies", 0), arm("cookies", 1)),
    trial=trial,
    checks=(
        Check(
            "backlog-and-one",
            "there is room for as many half-open connections as the backlog says, and one more",
            LENGTH,
            f"without cookies at most {BACKLOG + 1} half-open, and so many were, in every trial (a kernel before "
            f"{'.'.join(map(str, ONE_MORE_SINCE))} may stop at {BACKLOG})",
            always("no cookies", MOST_HALF_OPEN, least_room(platform.release()), BACKLOG + 1),
            timed=False,
            shows=("E3",),
        ),
        Check(
            "queue-full",
            "without cookies, a SYN that finds the queue of half-open connections full is dropped",
            FULL,
            "TCPReqQFullDrop > 0 in every trial",
            always("no cookies", "TCPReqQFullDrop", least=1),
            timed=False,
            shows=("E8",),
        ),
        Check(
            "good-clients-suffer",
            "the dropped SYNs are good clients' as well",
            CLOUDFLARE,
            f"at most {FEW_PERCENT} % connect",
            between("no cookies", "good clients connected", most=FEW_PERCENT),
            timed=False,
            shows=("E8",),
        ),
        Check(
            "cookies-sent",
            "with cookies the kernel answers without remembering, and knows its own answer again in the final ACK",
            FULL,
            "SyncookiesSent > 0 and SyncookiesRecv > 0 in every trial",
            sent_and_known_again,
            timed=False,
        ),
        Check(
            "good-clients-connect",
            "good clients connect through the same flood",
            CLOUDFLARE,
            f"at least {MOST_PERCENT} % connect, and TCPReqQFullDrop = 0 in every trial",
            nobody_is_dropped,
            timed=False,
        ),
    ),
    controls=(
        Control(
            "no-flood",
            "nobody leaves a handshake half done",
            (arm("no cookies", 0, 0), arm("cookies", 1, 0)),
            ("backlog-and-one", "queue-full", "good-clients-suffer", "cookies-sent"),
        ),
        Control(
            "cookies-exchanged",
            "the arms have each other's tcp_syncookies",
            (arm("no cookies", 1), arm("cookies", 0)),
            ("queue-full", "good-clients-suffer", "cookies-sent", "good-clients-connect"),
        ),
    ),
    repetitions=5,
    explanation="""\
For every SYN the kernel keeps a small half-open entry until the final ACK comes. There is room for as many as the
listener's backlog (capped at `net.core.somaxconn`), the limit of the accept queue too. Kernels from 2025 on (6.14) take
one more (`inet_csk_reqsk_queue_is_full` asks whether there are *more*; older ones, whether there are as many). Without
cookies, the last quarter of `tcp_max_syn_backlog` is kept for peers that are known from before, so where that is the
smaller number, others are dropped earlier. A client that never sends its ACK holds its place while the SYN/ACK is
repeated: a minute in a quiet queue, and still some seconds in one more than half full, where the kernel gives up on old
entries after fewer repeats. The addresses may be invented, since nobody has to be there. A hundred packets a second
fill this queue for good, whatever the server's speed: it accepts at once and has nothing to do.

Without cookies the next SYN is dropped and counted (`TCPReqQFullDrop`). Good clients are in the same line as bad ones:
their SYN is lost unless a place has just become free.

With `tcp_syncookies=1` a full queue is no reason to drop. The kernel encodes what it would have remembered in the
sequence number of its SYN/ACK (`SyncookiesSent`), and keeps nothing. A client that is really there returns that number
in its ACK; the kernel checks it and makes the connection from it (`SyncookiesRecv`). The price is small: options of the
SYN survive only as far as they fit in, and a lost final ACK is not noticed.

So a rising `TCPReqQFullDrop`, or cookies sent, tells of handshakes that do not end; a rising `ListenOverflows` tells of
an application that does not accept (`accept-queue-overflow`).
""",
)
