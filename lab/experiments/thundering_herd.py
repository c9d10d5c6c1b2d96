"""All workers wait on one socket and one connection comes: how many wake, and what do those do that find nothing?"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from lab.harness.checks import always, no_more, ratio
from lab.harness.experiment import Check, Control, Experiment
from lab.harness.observation import Arm, Observation, Quantity
from lab.measure.processes import tree
from lab.sandbox.sockets import epoll_watchers

if TYPE_CHECKING:
    from lab.harness.trial import Server, Trial

WORKERS = 4
GAP_SECONDS = 0.002
"""Between two connections: all workers wait again by then, so all can be woken."""
CLIENTS = 50
"""That connect anew for every request, as fast as they can: no worker ever waits."""
MANY_WORKERS, FEW_CLIENTS = 24, 2
LOOKS = 10
"""Into the workers' epoll sets, while connections come."""

SWITCHES, CPU, RATE = "voluntary switches an accept", "cpu an accept", "connections a second"
WATCHERS = "workers that wait for the listener by epoll"
EPOLLEXCLUSIVE = "Linux 4.5, commit df0108c5da56 (epoll: add EPOLLEXCLUSIVE flag)"


def trial(trial: Trial) -> Observation:
    """Connections one by one into idle workers, or as many as go."""
    with trial.serving() as server:
        return LOADS[trial.parameter("load")](trial, server)


def one_by_one(trial: Trial, server: Server) -> Observation:
    """What does each connection cost that finds all workers waiting?"""
    connections = 150 if trial.quick else 500
    before, watchers = figures(server), 0
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


def full_load(trial: Trial, server: Server) -> Observation:
    """How many connections go? A generator in Python would be the bottleneck itself, so it is wrk."""
    seconds, clients = 1.0 if trial.quick else 3.0, trial.parameter("clients")
    with trial.hammering(server, seconds, connections=clients, keep_alive=False) as finish:
        load = finish()
    return Observation({RATE: load.pop("rate"), **load})


LOADS = {"one by one": one_by_one, "full load": full_load}


def figures(server: Server) -> dict[str, float]:
    """What all workers together have done so far."""
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
    """NGINX's model with one wake-up policy, asked one by one."""
    return Arm(name or wakeup, "nginx", options(wakeup), parameters={"load": "one by one"})


def loaded(wakeup: str, name: str = "", *, workers: int = WORKERS, clients: int = CLIENTS) -> Arm:
    """The same, asked by so many clients at once."""
    parameters = {"load": "full load", "clients": clients}
    sysctls = {"net.ipv4.ip_local_port_range": "1024 65535"}  # a connection needs a port that was not used just now
    return Arm(
        f"{name or wakeup}, full load", "nginx", options(wakeup, workers), client_sysctls=sysctls, parameters=parameters
    )


def options(wakeup: str, workers: int = WORKERS) -> dict[str, Any]:
    """Of the server."""
    return {"workers": workers, "worker_kind": "process", "wakeup": wakeup}


EXPERIMENT = Experiment(
    name="thundering-herd",
    chapter="models",
    question=f"{WORKERS} idle workers wait for connections on one socket. How many of them does one connection wake?",
    predict="For each policy: how often does a worker go to sleep and wake up for one accepted connection?",
    arms=(
        *(arm(wakeup) for wakeup in ("herd", "exclusive", "exclusive-rotating", "mutex", "blocking")),
        *(loaded(wakeup) for wakeup in ("herd", "exclusive-rotating", "mutex")),
    ),
    trial=trial,
    programs=("wrk",),
    checks=(
        Check(
            "herd-wakes-all",
            "without EPOLLEXCLUSIVE every waiting worker is woken for every connection",
            EPOLLEXCLUSIVE,
            "voluntary context switches an accept at least 2 times those of `exclusive`",
            ratio(SWITCHES, "herd", to="exclusive", least=2),
        ),
        Check(
            "mutex-wakes-one",
            "with a mutex only its holder waits for connections, so there is no herd",
            "nginx, accept_mutex",
            "voluntary context switches an accept of the herd at least 2 times those of `mutex`",
            ratio(SWITCHES, "herd", to="mutex", least=2),
        ),
        Check(
            "one-holder",
            "the listener is in the epoll set of one worker at a time",
            "nginx, ngx_event_accept.c: ngx_trylock_accept_mutex; seen in /proc/PID/fdinfo, proc(5)",
            f"1 of {WORKERS} workers, at the most and in every trial",
            always("mutex", WATCHERS, 1, 1),
        ),
        Check(
            "mutex-is-not-faster",
            "but where no worker waits, taking turns at a lock accepts no faster than letting the kernel choose",
            "nginx, CHANGES 1.11.3: accept_mutex is off by default",
            "connections a second at most 1.1 times those of `exclusive-rotating`, in four of five pairs of trials",
            no_more(RATE, "mutex, full load", to="exclusive-rotating, full load", times=1.1),
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
        Control(
            "many-wait",
            f"{MANY_WORKERS} workers for {FEW_CLIENTS} clients, so most of them wait, and the kernel wakes all "
            "instead of choosing one",
            # Under the claim's own load nobody waits, and so a herd costs nothing there: it takes both.
            (
                loaded("herd", "exclusive-rotating", workers=MANY_WORKERS, clients=FEW_CLIENTS),
                loaded("mutex", workers=MANY_WORKERS, clients=FEW_CLIENTS),
            ),
            ("mutex-is-not-faster",),
        ),
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
server with many workers that pays. There a mutex is faster than the herd (`--control many-wait`). Against a kernel that
wakes only one it wins some runs and loses others, so of such a load nothing is claimed.

Blocking `accept()` has no herd either: waiters in `accept()` have been exclusive since Linux 2.4, long before those in
epoll could be. The second switch is the hand-over from the accepting thread to the event loop.
""",
)
