"""All workers wait on one socket and one connection comes: how many wake, and what do those do that find nothing?"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from lab.harness.checks import always, ratio
from lab.harness.experiment import Check, Control, Experiment
from lab.harness.observation import Arm, Observation, Quantity
from lab.measure.processes import tree
from lab.sandbox.sockets import epoll_watchers

if TYPE_CHECKING:
    from lab.harness.trial import Server, Trial

WORKERS = 4
GAP_SECONDS = 0.002
"""Between two connections: all workers wait again by then, so all can be woken."""
LOOKS = 10
"""Into the workers' epoll sets, while connections come."""

SWITCHES, CPU = "voluntary switches an accept", "cpu an accept"
WATCHERS = "workers that wait for the listener by epoll"
EPOLLEXCLUSIVE = "Linux 4.5, commit df0108c5da56 (epoll: add EPOLLEXCLUSIVE flag)"


def trial(trial: Trial) -> Observation:
    """Connections one by one into idle workers: what does each cost that finds all of them waiting?"""
    connections, watchers = 150 if trial.quick else 500, 0
    with trial.serving() as server:
        before = figures(server)
        for number in range(connections):
            if number % (connections // LOOKS) == 0:
                watchers = max(watchers, epoll_watchers(trial.server, server.address[1], tree(server.peer.pid)))
            trial.connect(server.address).close()
            time.sleep(GAP_SECONDS)
        spent = {name: after - before[name] for name, after in figures(server).items()}
    return Observation(
        {
            SWITCHES: Quantity(spent["switches"] / spent["accepted"]),
            "wasted wakeups an accept": Quantity(spent["wasted"] / spent["accepted"]),
            CPU: Quantity(spent["cpu"] / spent["accepted"] * 1e6, "µs"),
            WATCHERS: Quantity(watchers),
        }
    )


def figures(server: Server) -> dict[str, float]:
    """Counts of all workers together so far."""
    sample = server.look()
    workers = [str(number) for number in range(WORKERS)]

    def total(metric: str, **labels: str) -> float:
        return sum(sample.total(metric, worker=worker, **labels) for worker in workers)

    return {
        "accepted": total("lab_connections_accepted_total"),
        "switches": total("lab_worker_context_switches_total", kind="voluntary"),
        "wasted": total("lab_accept_wasted_wakeups_total"),
        "cpu": total("lab_worker_cpu_seconds_total"),
    }


def arm(wakeup: str, name: str = "") -> Arm:
    """NGINX's model with one wake-up policy."""
    return Arm(name or wakeup, "nginx", {"workers": WORKERS, "worker_kind": "process", "wakeup": wakeup})


EXPERIMENT = Experiment(
    name="thundering-herd",
    chapter="models",
    question=f"{WORKERS} idle workers wait for connections on one socket. How many of them does one connection wake?",
    predict="For each policy: how often does a worker go to sleep and wake up for one accepted connection?",
    arms=tuple(arm(wakeup) for wakeup in ("herd", "exclusive", "exclusive-rotating", "mutex", "blocking")),
    trial=trial,
    checks=(
        Check(
            "herd-wakes-all",
            "without EPOLLEXCLUSIVE every waiting worker is woken for every connection",
            EPOLLEXCLUSIVE,
            "voluntary context switches an accept at least 2 times those of `exclusive`",
            ratio(SWITCHES, "herd", to="exclusive", least=2),
            timed=False,
            shows=("L5",),
        ),
        Check(
            "mutex-wakes-one",
            "with a mutex only its holder waits for connections, so there is no herd",
            "nginx, accept_mutex",
            "voluntary context switches an accept of the herd at least 2 times those of `mutex`",
            ratio(SWITCHES, "herd", to="mutex", least=2),
            timed=False,
        ),
        Check(
            "one-holder",
            "the listener is in the epoll set of one worker at a time",
            "nginx, ngx_event_accept.c: ngx_trylock_accept_mutex; seen in /proc/PID/fdinfo, proc(5)",
            f"1 of {WORKERS} workers, at the most and in every trial",
            always("mutex", WATCHERS, 1, 1),
            timed=False,
        ),
    ),
    controls=(
        Control(
            "no-herd",
            "the herd waits with EPOLLEXCLUSIVE, too",
            (arm("exclusive", "herd"),),
            ("herd-wakes-all", "mutex-wakes-one"),
        ),
        Control("no-mutex", "the holders of the mutex are a herd", (arm("herd", "mutex"),), ("one-holder",)),
    ),
    explanation="""\
Every worker has the listener in its epoll set. When a connection comes, the kernel goes through the socket's wait
queue and wakes whoever waits there: all of them, though `accept()` can succeed for one only. The others have been
scheduled for nothing. On this kernel most of them do not even notice: epoll looks at the listener again before it
returns to user space, finds nothing, and goes back to sleep. So *wasted wakeups*, which a server can count itself,
hide the herd, and voluntary context switches show it.

With `EPOLLEXCLUSIVE` the kernel stops after the first waiter that it could wake. A mutex does the same from user space:
only its holder has the listener in its set. It costs a lock for every turn, and whoever waits for it learns of the
release late; since the kernel does it better, NGINX has left it off since 1.11.3.

Under full load the herd costs next to nothing: no worker waits, so there is nobody to be woken. It is the half-idle
server with many workers that pays. Whether a mutex then accepts faster or slower than a kernel that wakes only one is
not claimed here: on two cores it wins some runs and loses others (14 pairs: 0.64 to 1.52 times the rate).

Blocking `accept()` has no herd either: waiters in `accept()` have been exclusive since Linux 2.4, long before those in
epoll could be. The second switch is the hand-over from the accepting thread to the event loop.
""",
)
