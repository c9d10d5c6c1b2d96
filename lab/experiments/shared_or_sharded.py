"""One queue for all workers, or a queue for each? In a closed loop only the unlucky pay; in an open one, all do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.harness.checks import ratio
from lab.harness.experiment import Check, Control, Experiment
from lab.harness.observation import Arm, Observation
from lab.load.plan import Stream

if TYPE_CHECKING:
    from lab.harness.trial import Trial

WORKERS = 4
CLIENTS = 32
"""Of the closed loop: enough that hardly any worker's queue is ever empty."""
SERVICE_SECONDS = 0.005
CORES_TO_BURN = 8
"""With these, four workers have a core each even where others take some; below, service is slept instead of burnt."""
UTILISATION = 0.7
"""Of the open loop."""
MOST_AT_ONCE = 48
"""Connections of the open loop: more than ever wait."""
RATE = UTILISATION * WORKERS / SERVICE_SECONDS
ALONE = 1 + UTILISATION / (2 * (1 - UTILISATION))
"""Mean response of a queue of its own, in service times: M/D/1, by Pollaczek and Khinchine."""

CLOSED_RATIO = 1.05
"""Mean of sharded over shared in the closed loop, as a simulation predicts it for CLIENTS, WORKERS and service times
that are all the same (90 % of its runs: 1.035 to 1.073). A queue that is empty by chance is what makes it more than 1.
"""
TOLERANCE = 0.05

OPTIONS = {"workers": WORKERS, "worker_kind": "process"}

CLOUDFLARE = "cloudflare-blog 2017-10-accept-balancing: means 30.4 and 31.4 ms, deviations 1.6 and 25.3, max 73 and 145"
QUEUEING = f"queueing theory: a queue for each: {ALONE:.2f} service times on average (M/D/1); one for four: less"


def trial(trial: Trial) -> Observation:
    """Clients that connect for each request, and ask again as soon as they are answered, or when their time comes."""
    observation = Observation(notes=[f"a request's {SERVICE_SECONDS * 1000:g} ms are {WORDS[service(trial)]}"])
    path = f"/work?{service(trial)}={SERVICE_SECONDS * 1000:g}ms"
    clients, rate = trial.parameter("clients"), trial.parameter("rate")
    with trial.serving() as server, server.watched(observation):
        requests = Stream(path=path, connections=clients, rate=rate, keep_alive=False)
        load = trial.load(server, requests, seconds=seconds_of(trial))
    observation.metrics |= load.quantities()
    observation.latencies |= load.latencies("response time")
    observation.shares["requests by worker"] = dict(load.streams["all"].workers)
    return observation


def seconds_of(trial: Trial) -> float:
    """In a closed loop a worker's queue that is empty by chance fills slowly, so a short one has a mean by chance."""
    closed = not trial.parameter("rate")
    return (3.0 if closed else 2.0) if trial.quick else 6.0


def service(trial: Trial) -> str:
    """The kind of work, as `/work` calls it: sleep lets four workers work at once on any number of cores."""
    return "cpu" if len(trial.server_cpus | trial.client_cpus) >= CORES_TO_BURN else "block"


WORDS = {"cpu": "burnt on a processor", "block": f"slept: below {CORES_TO_BURN} cores four workers share them"}


def arm(name: str, model: str) -> Arm:
    """Four processes of a model, and clients that ask again as soon as they are answered."""
    return Arm(name, model, OPTIONS, parameters={"clients": CLIENTS, "rate": 0.0})


def open_arm(name: str, model: str) -> Arm:
    """The same, and requests that come when they come."""
    return Arm(name, model, OPTIONS, parameters={"clients": MOST_AT_ONCE, "rate": RATE})


EXPERIMENT = Experiment(
    name="shared-or-sharded",
    chapter="models",
    question=f"{WORKERS} workers, all requests alike: one accept queue for all, or one for each?",
    predict=f"How do mean, deviation and maximum of the response times differ: with {CLIENTS} clients that ask again "
    "when they are answered, and with requests that come by chance?",
    arms=(
        arm("shared", "nginx"),
        arm("sharded", "reuseport"),
        open_arm("shared, open", "nginx"),
        open_arm("sharded, open", "reuseport"),
    ),
    trial=trial,
    checks=(
        Check(
            "same-mean",
            "where clients wait for their answers and keep all workers busy, the mean is only a little longer",
            f"simulation of a closed loop with equal service times, {CLOSED_RATIO}; {CLOUDFLARE}",
            f"{CLOSED_RATIO} ± {TOLERANCE}",
            ratio("mean", "sharded", to="shared", least=CLOSED_RATIO - TOLERANCE, most=CLOSED_RATIO + TOLERANCE),
            timed=True,
        ),
        Check(
            "wider",
            "but with a queue for each worker, response times spread far more",
            CLOUDFLARE,
            "deviation at least 5 times, spreads apart",
            ratio("deviation", "sharded", to="shared", least=5),
            timed=True,
        ),
        Check(
            "worst-is-worse",
            "and the unlucky wait longer",
            CLOUDFLARE,
            "maximum at least 1.5 times, spreads apart",
            ratio("max", "sharded", to="shared", least=1.5),
            timed=True,
        ),
        Check(
            "open-mean-is-worse",
            "where requests come whether or not others are answered, the mean is longer with a queue for each, too",
            QUEUEING,
            "mean at least 1.3 times, spreads apart",
            ratio("mean", "sharded, open", to="shared, open", least=1.3),
            timed=True,
        ),
    ),
    controls=(
        Control(
            "both-shared",
            "both share one queue",
            (arm("sharded", "nginx"), open_arm("sharded, open", "nginx")),
            ("wider", "worst-is-worse", "open-mean-is-worse"),
        ),
        Control(
            "open-loop",
            "requests do not wait for one another, so workers are idle now and then",
            (open_arm("shared", "nginx"), open_arm("sharded", "reuseport")),
            ("same-mean",),
        ),
    ),
    explanation=f"""\
With one queue, a connection is served in the order in which it came, by whoever is free next. All clients wait equally
long, and no worker is idle while one waits.

With a queue for each worker, the hash decides where a connection waits. Some queues are long by chance, while the
worker next door has nothing to do, and whoever lands in a long one pays for it. That is the supermarket against the
bank: one line for each till, or one for all.

What it does to the mean depends on the clients. In a *closed loop* with many of them, each asks again only when it is
answered, so a worker is hardly ever idle, throughput stays nearly the same, and with it the mean (a simulation says
{CLOSED_RATIO} times): what grows is the deviation and the tail. In an *open loop*, requests come whether or not others
wait. Then every moment that a worker is idle beside a queue is lost, and the mean grows, too: at {UTILISATION:.0%} load
a queue of its own answers after {ALONE:.2f} service times. With service times that vary the distance is larger still:
at 80 % M/M/1 takes 5.00 of them, M/M/4 only 1.75.

From {CORES_TO_BURN} cores on the work burns processor time. Below, workers would wait for a processor rather than in a
queue, so it sleeps.

Why shard at all, then? Because one queue is also one lock and one cache line, which hundreds of thousands of
connections a second on dozens of cores contend for. Sharding buys rate with tail latency.
""",
)
