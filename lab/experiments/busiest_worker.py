"""Wake-up order: who gets the next connection when all workers wait? The kernel's wait queue decides, not the load."""

from __future__ import annotations

import math
import operator
import time
from itertools import pairwise
from typing import TYPE_CHECKING

from lab.experiments import theory
from lab.harness.checks import between, every_trial, shown
from lab.harness.experiment import Check, Control, Experiment, Finding
from lab.harness.observation import Arm, Observation, Quantity
from lab.measure.processes import wait_until_asleep

if TYPE_CHECKING:
    from lab.harness.experiment import Results
    from lab.harness.trial import Trial

WORKERS = 3
CONNECTIONS = 300
GAP_SECONDS = 0.002
"""Long enough for the worker that accepted to be waiting again, unless other programs keep it from a processor."""
IDLE_SECONDS = 2.0
"""So long may that take: every connection meets three idle workers, or who gets it says nothing of the wait queue."""

THIRD = 100 / WORKERS
TOLERANCE = 2
"""Percentage points."""
MOST_OF_THREE_IN_TURN = 40
"""Percent: what three workers that take turns do not reach."""
MUTEX_DELAY_SECONDS = 0.5
MUTEX_CONNECTIONS = 1200
"""Some seconds of them: several times the delay after which a worker without the mutex looks after it again."""
HAND_OVERS, LOOKS = "hand-overs", "looks of the others"

CLOUDFLARE = "cloudflare-blog 2017-10-accept-balancing"


def trial(trial: Trial) -> Observation:
    """One connection after another; who accepted each, as it says itself."""
    connections: int = trial.parameter("connections")
    with trial.serving() as server:
        workers = [worker["pid"] for worker in server.state()["workers"]]
        begun, accepted_by = time.monotonic(), []
        for _ in range(connections):
            accepted_by.append(trial.ask(server.address))
            time.sleep(GAP_SECONDS)
            wait_until_asleep(workers, IDLE_SECONDS)
        seconds = time.monotonic() - begun
    accepted = {str(worker): float(accepted_by.count(str(worker))) for worker in range(WORKERS)}
    shares = [count / connections for count in accepted.values()]
    return Observation(
        {
            "busiest": Quantity(max(shares) * 100, "%"),
            "idlest": Quantity(min(shares) * 100, "%"),
            "accepted": Quantity(sum(accepted.values())),
            HAND_OVERS: Quantity(sum(one != next_one for one, next_one in pairwise(accepted_by))),
            LOOKS: Quantity(most_looks(seconds)),
        },
        shares={"connections accepted by worker": accepted},
    )


def most_looks(seconds: float) -> int:
    """Times, in so many seconds, that workers without the mutex can find that their delay is over."""
    return (WORKERS - 1) * math.ceil(seconds / MUTEX_DELAY_SECONDS)


def arm(wakeup: str, name: str = "", connections: int = CONNECTIONS) -> Arm:
    """NGINX's model with one wake-up policy."""
    options = {"workers": WORKERS, "worker_kind": "process", "wakeup": wakeup}
    return Arm(name or wakeup, "nginx", options, parameters={"connections": connections})


def each_a_third(results: Results) -> Finding:
    """In every trial."""
    busiest, idlest = results["blocking"].summary("busiest"), results["blocking"].summary("idlest")
    even = busiest["max"] <= THIRD + TOLERANCE and idlest["min"] >= THIRD - TOLERANCE
    return Finding(f"busiest {shown(busiest)}, idlest {shown(idlest)}", even)


EXPERIMENT = Experiment(
    name="busiest-worker",
    chapter="models",
    question="Three idle workers wait for connections on one socket. Which of them gets the next one?",
    predict=f"For each policy: what share of {CONNECTIONS} connections, made one after another, goes to the busiest "
    "worker? And how often does the next connection go to another one?",
    arms=(
        *(arm(wakeup) for wakeup in ("blocking", "exclusive", "exclusive-rotating", "herd")),
        arm("mutex", connections=MUTEX_CONNECTIONS),
    ),
    trial=trial,
    checks=(
        Check(
            "blocking-takes-turns",
            "workers that block in accept() are woken first in, first out: each gets a third",
            CLOUDFLARE,
            f"busiest and idlest {THIRD:.1f} % ± {TOLERANCE}, in every trial",
            each_a_third,
            timed=False,
        ),
        Check(
            "exclusive-has-a-favourite",
            "with EPOLLEXCLUSIVE alone, the same waiter keeps winning",
            f"{CLOUDFLARE}; fs/eventpoll.c, ep_poll_callback: an exclusive waiter is not moved back in the queue",
            "busiest at least 80 %",
            between("exclusive", "busiest", least=80),
            timed=False,
            corrects=theory.EPOLL_IS_LIFO,
        ),
        Check(
            "mutex-stays-with-its-holder",
            "with a mutex its holder goes on accepting: the others look after it only every "
            f"{MUTEX_DELAY_SECONDS:g} s, and only such a look can take it over",
            "nginx, ngx_event_accept.c: ngx_trylock_accept_mutex, before each wait; accept_mutex_delay",
            f"of {MUTEX_CONNECTIONS:,} connections, made in several delays, no more hand-overs than the other two have "
            "looks, in every trial",
            every_trial("mutex", HAND_OVERS, LOOKS, holds=operator.le),
            timed=False,
        ),
        Check(
            "rotating-spreads",
            "a worker that adds its listener anew goes to the back of the queue: idle workers take turns",
            "nginx 1.21.6, ngx_event_accept.c: ngx_reorder_accept_events",
            f"busiest at most {MOST_OF_THREE_IN_TURN} %",
            between("exclusive-rotating", "busiest", most=MOST_OF_THREE_IN_TURN),
            timed=False,
            corrects=theory.NGINX_OVERLOADS_ONE,
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
                arm("blocking", "mutex", MUTEX_CONNECTIONS),
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
to ask in the right moment: that is counted here as a *hand-over*. How the shares come out after many of these is
chance, so of a mutex no share is claimed.

For `herd` no share is claimed. Every connection wakes all three, and the first that runs gets it: the scheduler
decides, so it depends on how many processors there are, and on what else these do.
""",
)
