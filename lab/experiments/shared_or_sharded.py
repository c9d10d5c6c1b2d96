"""One queue for all workers, or a queue for each? The mean is the same; what differs is the unlucky."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.measure.checks import ratio
from lab.measure.experiment import Arm, Check, Control, Experiment, Observation
from lab.measure.generator import Stream

if TYPE_CHECKING:
    from lab.measure.trial import Trial

WORKERS = 4
CLIENTS = 24
SERVICE = "5ms"
"""Slept, not burnt: so four workers work at once on any number of cores."""

CLOUDFLARE = "cloudflare-blog 2017-10-accept-balancing: means 30.4 and 31.4 ms, deviations 1.6 and 25.3, max 73 and 145"


def trial(trial: Trial) -> Observation:
    """Clients that connect for each request, and ask again as soon as they are answered."""
    observation = Observation()
    with trial.serving() as server, server.watched(observation):
        clients = Stream(path=f"/work?block={SERVICE}", connections=trial.parameter("clients"), keep_alive=False)
        load = trial.load(server, clients, seconds=3.0 if trial.quick else 8.0)
    observation.metrics |= load.quantities()
    observation.latencies |= load.latencies("response time")
    observation.shares["requests by worker"] = dict(load.streams["all"].workers)
    return observation


def arm(name: str, model: str, *, clients: int = CLIENTS, **options: str) -> Arm:
    """Four processes of a model."""
    return Arm(name, model, {"workers": WORKERS, "worker_kind": "process", **options}, parameters={"clients": clients})


EXPERIMENT = Experiment(
    name="shared-or-sharded",
    chapter="models",
    question=f"{CLIENTS} clients, {WORKERS} workers, all requests alike: one accept queue for all, or one for each?",
    predict="How do mean, deviation and maximum of the response times differ?",
    arms=(arm("shared", "nginx"), arm("sharded", "reuseport")),
    trial=trial,
    checks=(
        Check(
            "same-mean",
            "the mean does not depend on it: as many workers are busy, and as many clients wait",
            CLOUDFLARE,
            "within 10 %",
            ratio("mean", "sharded", to="shared", least=0.9, most=1.1),
        ),
        Check(
            "wider",
            "with a queue for each worker, response times spread far more",
            CLOUDFLARE,
            "deviation at least 5 times, spreads apart",
            ratio("deviation", "sharded", to="shared", least=5),
        ),
        Check(
            "worst-is-worse",
            "and the unlucky wait longer",
            CLOUDFLARE,
            "maximum at least 1.5 times, spreads apart",
            ratio("max", "sharded", to="shared", least=1.5),
        ),
    ),
    controls=(
        Control("both-shared", "both share one queue", (arm("sharded", "nginx"),), ("wider", "worst-is-worse")),
        Control(
            "more-load", "twice as many clients", (arm("sharded", "reuseport", clients=2 * CLIENTS),), ("same-mean",)
        ),
    ),
    explanation="""\
With one queue, a connection is served in the order in which it came, by whoever is free next. All clients wait equally
long, and no worker is idle while one waits.

With a queue for each worker, the hash decides where a connection waits. Some queues are long by chance, while the
worker next door has nothing to do, and whoever lands in a long one pays for it. Here clients ask again as soon as they
are answered, so a worker is hardly ever idle and the mean stays the same; what grows is the deviation and the tail.
That is the supermarket against the bank: one line for each till, or one for all.

Why shard at all, then? Because one queue is also one lock and one cache line, which hundreds of thousands of
connections a second on dozens of cores contend for. Sharding buys rate with tail latency.
""",
)
