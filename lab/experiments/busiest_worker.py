"""Who gets the next connection when all workers wait? The kernel's wait queue decides, not the load."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from lab.harness.checks import between, shown
from lab.harness.experiment import Check, Control, Experiment, Finding
from lab.harness.observation import Arm, Observation, Quantity

if TYPE_CHECKING:
    from lab.harness.experiment import Results
    from lab.harness.trial import Trial

WORKERS = 3
CONNECTIONS = 300
GAP_SECONDS = 0.002
"""Long enough for the worker that accepted to be waiting again: every connection meets three idle workers."""

THIRD = 100 / WORKERS
TOLERANCE = 2
"""Percentage points."""
BETWEEN_TURNS_AND_FAVOURITE = 40
"""Percent: what three workers that take turns do not reach, and a holder that changes once or twice exceeds."""

CLOUDFLARE = "cloudflare-blog 2017-10-accept-balancing"


def trial(trial: Trial) -> Observation:
    """One connection after another; count who accepted each."""
    observation = Observation()
    with trial.serving() as server:
        for _ in range(CONNECTIONS):
            trial.connect(server.address).close()
            time.sleep(GAP_SECONDS)
        accepted = server.per_worker("lab_connections_accepted_total")
    observation.shares["connections accepted by worker"] = accepted
    shares = [count / CONNECTIONS for count in accepted.values()]
    observation.metrics |= {
        "busiest": Quantity(max(shares) * 100, "%"),
        "idlest": Quantity(min(shares) * 100, "%"),
        "accepted": Quantity(sum(accepted.values())),
    }
    return observation


def arm(wakeup: str, name: str = "") -> Arm:
    """NGINX's model with one wake-up policy."""
    return Arm(name or wakeup, "nginx", {"workers": WORKERS, "worker_kind": "process", "wakeup": wakeup})


def each_a_third(results: Results) -> Finding:
    """In every trial."""
    busiest, idlest = results["blocking"].summary("busiest"), results["blocking"].summary("idlest")
    even = busiest["max"] <= THIRD + TOLERANCE and idlest["min"] >= THIRD - TOLERANCE
    return Finding(f"busiest {shown(busiest)}, idlest {shown(idlest)}", even)


EXPERIMENT = Experiment(
    name="busiest-worker",
    chapter="models",
    question="Three idle workers wait for connections on one socket. Which of them gets the next one?",
    predict="For each policy: what share of 300 connections, made one after another, goes to the busiest worker?",
    arms=tuple(arm(wakeup) for wakeup in ("blocking", "exclusive", "exclusive-rotating", "herd", "mutex")),
    trial=trial,
    checks=(
        Check(
            "blocking-takes-turns",
            "workers that block in accept() are woken first in, first out: each gets a third",
            CLOUDFLARE,
            f"busiest and idlest {THIRD:.1f} % ± {TOLERANCE}, in every trial",
            each_a_third,
        ),
        Check(
            "exclusive-has-a-favourite",
            "with EPOLLEXCLUSIVE alone, the same waiter keeps winning",
            f"{CLOUDFLARE}; fs/eventpoll.c, ep_poll_callback: an exclusive waiter is not moved back in the queue",
            "busiest at least 80 %",
            between("exclusive", "busiest", least=80),
        ),
        Check(
            "mutex-stays-with-its-holder",
            "with a mutex its holder goes on accepting: the others look after it only every 0.5 s, and mostly in vain",
            "nginx, ngx_event_accept.c: ngx_trylock_accept_mutex, before each wait; accept_mutex_delay",
            f"busiest at least {BETWEEN_TURNS_AND_FAVOURITE} %",
            between("mutex", "busiest", least=BETWEEN_TURNS_AND_FAVOURITE),
        ),
        Check(
            "rotating-spreads",
            "a worker that adds its listener anew goes to the back of the queue: idle workers take turns",
            "nginx 1.21.6, ngx_event_accept.c: ngx_reorder_accept_events",
            f"busiest at most {BETWEEN_TURNS_AND_FAVOURITE} %",
            between("exclusive-rotating", "busiest", most=BETWEEN_TURNS_AND_FAVOURITE),
        ),
    ),
    controls=(
        Control(
            "wrong-policy",
            "the policies change places",
            (
                arm("exclusive", "blocking"),
                arm("exclusive-rotating", "exclusive"),
                arm("exclusive", "exclusive-rotating"),
                arm("blocking", "mutex"),
            ),
            (
                "blocking-takes-turns",
                "exclusive-has-a-favourite",
                "mutex-stays-with-its-holder",
                "rotating-spreads",
            ),
        ),
    ),
    repetitions=5,
    explanation="""\
A listening socket has one wait queue. A thread that blocks in `accept()` is put at its tail, and a new connection
wakes the head: first in, first out, so idle workers take turns.

`epoll` puts a waiter of its own into that queue, once, when the listener is added. With `EPOLLEXCLUSIVE` the kernel
wakes the first waiter whose worker sleeps in `epoll_wait`, and leaves it where it is. So the next connection finds the
same waiter first: one worker takes nearly all while the others sleep. That looks unfair, and is harmless while one
worker copes; but keep-alive connections stay where they were accepted, so the busiest hour begins with a worker that
owns most connections.

NGINX 1.21.6 takes its listener out and adds it again every 16 accepts, which sends the waiter to the tail.

With `mutex` only its holder has the listener in its set. It lets go while it serves and asks for the lock before it
waits again; the others ask every 0.5 s, and mostly find it taken. So one worker accepts for long, until another happens
to ask in the right moment: how often that is depends on the load.

For `herd` no share is claimed. Every connection wakes all three, and the first that runs gets it: the scheduler
decides, so it depends on how many processors there are, and on what else these do.
""",
)
