"""Every fourth connection is hot. Does counting connections balance the load?"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from lab.experiments import theory
from lab.harness.checks import always, between, ratio
from lab.harness.experiment import Check, Control, Experiment
from lab.harness.observation import Arm, Observation, Quantity
from lab.load.plan import Stream

if TYPE_CHECKING:
    from lab.harness.trial import Trial
    from lab.load.plan import StreamResult

WORKERS = 4
CONNECTIONS = 16
QUIET_RATE = 2.0
"""Requests a second on a quiet connection; a hot one asks again as soon as it is answered."""
SERVICE = "2ms"
"""Slept, so that four workers can be busy at once on any number of cores."""
APART = WORKERS + 1
"""Every fifth hot: as many hot ones of 16 as every fourth, but dealt out in turn they come to four workers."""
HOT_MEAN = "mean of the hot"
"""By Little's law: the hot clients, over the rate at which all of them together are answered."""

MEMCACHED = "memcached, thread.c: the next thread is (last + 1) mod n, blind to load"


def trial(trial: Trial) -> Observation:
    """Connect in a fixed order, hot and quiet ones, and count who executes the hot requests."""
    period, clients = trial.parameter("hot every"), trial.parameter("connections")
    streams = [
        Stream(
            f"{'hot' if number % period == 0 else 'quiet'} {number}",
            path=f"/work?block={SERVICE}",
            rate=0.0 if number % period == 0 else QUIET_RATE,
        )
        for number in range(clients)
    ]
    with trial.serving() as server, trial.loading(server, *streams) as loading:
        server.wait_until_asked(CONNECTIONS)
        owners = [worker for worker in server.state()["workers"] if worker["worker"] != "main"]
        connections = {worker["worker"]: float(worker["connections"]) for worker in owners}
        load = loading.result()
    hot_streams = [result for name, result in load.streams.items() if name.startswith("hot")]
    hot: Counter[str] = Counter({str(number): 0 for number in range(WORKERS)})
    for result in hot_streams:
        hot.update(result.workers)
    total, even = sum(hot.values()), sum(hot.values()) / WORKERS
    slowest = max(load.streams.values(), key=lambda result: result.mean_seconds)
    return Observation(
        {
            **load.quantities("hot 0"),
            HOT_MEAN: Quantity(mean_of(hot_streams) * 1000, "ms"),
            "hot requests": Quantity(total),
            "hot requests on the busiest": Quantity(max(hot.values()) / total * 100, "%"),
            "farthest from even": Quantity(max(abs(count - even) for count in hot.values()) / even * 100, "%"),
            "connections, most - fewest": Quantity(max(connections.values()) - min(connections.values())),
            "mean of the slowest connection": Quantity(slowest.mean_seconds * 1000, "ms"),
        },
        shares={
            "hot requests by worker": {name: float(count) for name, count in hot.items()},
            "connections by worker": connections,
        },
    )


def mean_of(streams: list[StreamResult]) -> float:
    """Mean response time of all their requests together, in seconds."""
    return sum(each.mean_seconds * each.requests for each in streams) / sum(each.requests for each in streams)


def arm(name: str, model: str, *, hot_every: int = WORKERS, connections: int = CONNECTIONS, **options: str) -> Arm:
    """Four worker threads."""
    parameters = {"hot every": hot_every, "connections": connections}
    return Arm(name, model, {"workers": WORKERS, "worker_kind": "thread", **options}, parameters=parameters)


TURN, LEAST, HANDED = "round-robin", "least-connections", "request hand-off"
ALONE = "one client alone"

EXPERIMENT = Experiment(
    name="hot-connections",
    chapter="models",
    question=f"Of {CONNECTIONS} connections every {WORKERS}th is busy. Which of {WORKERS} workers gets the load?",
    predict="What share of the hot requests does the busiest worker execute, under each policy?",
    arms=(
        arm(TURN, "memcached", assign="round-robin"),
        arm(LEAST, "memcached", assign="least-connections"),
        arm(HANDED, "ramcloud", dispatch="request-least-loaded"),
        arm(ALONE, "ramcloud", connections=1, dispatch="request-idle-stack"),
    ),
    trial=trial,
    checks=(
        Check(
            "connections-are-even",
            "round-robin gives every worker the same number of connections",
            MEMCACHED,
            "most - fewest at most 1, in every trial",
            always(TURN, "connections, most - fewest", most=1),
            timed=False,
            corrects=theory.MEMCACHED_IS_UNEVEN,
        ),
        Check(
            "load-is-not",
            f"and yet, where every {WORKERS}th connection is hot, one worker all of the hot load",
            MEMCACHED,
            "hot requests on the busiest 100 %, in every trial",
            always(TURN, "hot requests on the busiest", 100, 100),
            timed=False,
            shows=("L3",),
        ),
        Check(
            "counting-does-not-help",
            "while none closes, least-connections counts as many for each, and does the same",
            MEMCACHED,
            "hot requests on the busiest 100 %, in every trial",
            always(LEAST, "hot requests on the busiest", 100, 100),
            timed=False,
        ),
        Check(
            "hot-ones-wait",
            "so the hot ones wait for one another while other workers have nothing to do; handed over, none waits",
            MEMCACHED,
            f"mean of the hot connections under {TURN} at least 2 times that under {HANDED}, spreads apart",
            ratio(HOT_MEAN, TURN, to=HANDED, least=2),
            timed=True,
        ),
        Check(
            "hand-off-spreads",
            "handing over requests spreads them, whichever connection they come from",
            "RAMCloud, WorkerManager::handleRpc",
            "every worker within 10 % of even",
            between(HANDED, "farthest from even", most=10),
            timed=False,
        ),
        Check(
            "last-idle-first",
            "RAMCloud keeps its idle workers on a stack: one client that asks again and again meets the same one",
            "RAMCloud, WorkerManager.cc: idle threads are a LIFO stack",
            "requests on the busiest worker at least 95 %",
            between(ALONE, "hot requests on the busiest", least=95),
            timed=False,
        ),
    ),
    controls=(
        Control(
            "hot-ones-apart",
            f"as many are hot, but every {APART}th instead of every {WORKERS}th, so in turn they come to all workers",
            (
                arm(TURN, "memcached", hot_every=APART, assign="round-robin"),
                arm(LEAST, "memcached", hot_every=APART, assign="least-connections"),
            ),
            ("load-is-not", "counting-does-not-help", "hot-ones-wait"),
        ),
        Control(
            "hash",
            "connections are spread by the kernel's hash, not in turn",
            (arm(TURN, "reuseport"),),
            ("connections-are-even",),
        ),
        Control(
            "connections-handed-over",
            "ramcloud hands over connections, not requests",
            (arm(HANDED, "ramcloud", dispatch="connection"),),
            ("hand-off-spreads",),
        ),
        Control(
            "queue-of-idle-ones",
            "who has been idle longest is next",
            (arm(ALONE, "ramcloud", connections=1, dispatch="request-fifo"),),
            ("last-idle-first",),
        ),
    ),
    explanation="""\
memcached's acceptor gives the next connection to the next thread, and the connection stays there for life. That makes
the number of *connections* even, to within one. But load comes by request, and connections differ: a pool that one
busy client opened, a health checker, a batch job. Nothing corrects an unlucky assignment, since nothing is ever handed
over again. Here every fourth connection is busy, and so all the busy ones end at the same thread: each of their
requests waits until those of the others are done, while three threads have next to nothing to do. With as many busy
ones in other places of the line, all would be well (`--control hot-ones-apart`): it is luck.

Choosing the thread with the fewest connections looks smarter, and is not while no connection closes: all have equally
many, and so it goes round, too. Where connections come and go it keeps their number even, as round-robin does not; but
the number is not the load.

RAMCloud's dispatcher owns all connections and hands over one request at a time, to whoever has the least to do. The
busy connections then keep all workers busy, at the price of a hand-off for each request.
""",
)
