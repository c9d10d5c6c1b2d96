"""All workers wait on one socket and one connection comes: how many wake, and what do those do that find nothing?"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from lab.measure.checks import ratio
from lab.measure.experiment import Arm, Check, Control, Experiment, Observation, Quantity
from lab.measure.generator import Stream

if TYPE_CHECKING:
    from lab.measure.trial import Server, Trial

WORKERS = 4
GAP_SECONDS = 0.002
"""Between two connections: all workers wait again by then, so all can be woken."""
CLIENTS = 8
"""That connect anew for every request, as fast as they can, for the connection rate."""

SWITCHES, CPU, RATE = "voluntary switches an accept", "cpu an accept", "connections a second"
EPOLLEXCLUSIVE = "Linux 4.5, commit df0108c5da56 (epoll: add EPOLLEXCLUSIVE flag)"


def trial(trial: Trial) -> Observation:
    """Connections one by one into idle workers; then as many as go."""
    connections = 300 if trial.quick else 500
    with trial.serving(all_cpus=True) as server:
        before = figures(server)
        for _ in range(connections):
            trial.connect(server.address).close()
            time.sleep(GAP_SECONDS)
        spent = {name: after - before[name] for name, after in figures(server).items()}
        clients = Stream(connections=trial.parameter("clients"), keep_alive=False)
        load = trial.load(server, clients, seconds=1.0 if trial.quick else 2.0)
    accepted = spent["accepted"]
    return Observation(
        {
            SWITCHES: Quantity(spent["switches"] / accepted),
            "wasted wakeups an accept": Quantity(spent["wasted"] / accepted),
            CPU: Quantity(spent["cpu"] / accepted * 1e6, "µs"),
            RATE: load.quantities()["rate"],
        }
    )


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


def arm(wakeup: str, name: str = "", *, clients: int = CLIENTS) -> Arm:
    """NGINX's model with one wake-up policy."""
    options = {"workers": WORKERS, "worker_kind": "process", "wakeup": wakeup}
    return Arm(name or wakeup, "nginx", options, parameters={"clients": clients})


EXPERIMENT = Experiment(
    name="thundering-herd",
    chapter="models",
    question=f"{WORKERS} idle workers wait for connections on one socket. How many of them does one connection wake?",
    predict="For each policy: how often does a worker go to sleep and wake up for one accepted connection?",
    arms=(arm("herd"), arm("exclusive"), arm("exclusive-rotating"), arm("mutex"), arm("blocking")),
    trial=trial,
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
            "mutex-is-not-faster",
            "but taking turns at a lock accepts no faster than letting the kernel choose",
            "nginx, CHANGES 1.11.3: accept_mutex is off by default",
            "connections a second at most 1.1 times those of `exclusive-rotating`",
            ratio(RATE, "mutex", to="exclusive-rotating", most=1.1),
        ),
    ),
    controls=(
        Control(
            "no-herd",
            "the herd waits with EPOLLEXCLUSIVE, too",
            (arm("exclusive", "herd"),),
            ("herd-wakes-all", "mutex-wakes-one"),
        ),
        Control(
            "uneven-load",
            "only one client asks the workers that take turns",
            (arm("exclusive-rotating", clients=1),),
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

Blocking `accept()` has no herd either, because waiters in `accept()` have always been exclusive; the second switch is
the hand-over from the accepting thread to the event loop.
""",
)
