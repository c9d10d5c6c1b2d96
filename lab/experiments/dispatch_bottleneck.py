"""One thread hands out all requests. When is it the bottleneck, and what does a hand-off cost?"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from lab.harness.checks import between, ratio
from lab.harness.experiment import Check, Control, Experiment
from lab.harness.observation import Arm, Observation, Quantity
from lab.load.generator import Stream
from lab.measure.processes import cpu_seconds, tree

if TYPE_CHECKING:
    from lab.harness.trial import Server, Trial

FEW, MANY = 1, 4
CLIENTS = 16
SERVICE = "5ms"
"""Slept: so that four workers can be busy at once on any number of cores."""
STEADY_RATE = 1000.0
"""Requests a second at which hand-offs are priced: nobody is saturated."""
LEAD_SECONDS = 0.3
"""Until a load has begun, and before its end: how busy the dispatcher is counts in between."""
CORES = 4
"""Generator, dispatcher and two workers: with fewer, they take the time from one another."""

RATE, COST, BUSY = "requests a second", "cpu a request", "dispatcher busy"
RAMCLOUD = "RAMCloud, WorkerManager.cc: the dispatch thread owns all connections"


def trial(trial: Trial) -> Observation:
    """The arm's load: cheap requests as fast as they go, expensive ones, or cheap ones at a steady rate."""
    return LOADS[trial.parameter("load")](trial)


def cheap(trial: Trial) -> Observation:
    """As fast as they go. A generator in Python would be the bottleneck itself, so it is wrk."""
    with trial.serving() as server, trial.hammering(server, seconds_of(trial)) as finish:
        time.sleep(LEAD_SECONDS)
        before, begun = dispatcher_seconds(server), time.monotonic()
        time.sleep(seconds_of(trial) - 2 * LEAD_SECONDS)
        busy = (dispatcher_seconds(server) - before) / (time.monotonic() - begun)
        load = finish()
    return Observation({RATE: load.pop("rate"), BUSY: Quantity(busy * 100, "%"), **load})


def expensive(trial: Trial) -> Observation:
    """Clients that ask for some milliseconds of work each."""
    with trial.serving() as server:
        before, begun = dispatcher_seconds(server), time.monotonic()
        load = trial.load(server, Stream(path=f"/work?block={SERVICE}", connections=CLIENTS), seconds=seconds_of(trial))
        busy = (dispatcher_seconds(server) - before) / (time.monotonic() - begun)
    figures = load.quantities()
    return Observation({**figures, RATE: figures["rate"], BUSY: Quantity(busy * 100, "%")})


def steady(trial: Trial) -> Observation:
    """Cheap requests at a rate that nobody minds: what does each cost the server?"""
    with trial.serving(metrics="off") as server:
        before = cpu_seconds(tree(server.peer.pid))
        load = trial.load(
            server, Stream(connections=CLIENTS, rate=STEADY_RATE), seconds=seconds_of(trial), warm_up_seconds=0.0
        )
        spent = cpu_seconds(tree(server.peer.pid)) - before
    figures = load.quantities()
    return Observation({**figures, COST: Quantity(spent / figures["requests"].value * 1e6, "µs")})


def seconds_of(trial: Trial) -> float:
    """There are six arms, so each is short."""
    return 1.0 if trial.quick else 3.0


def dispatcher_seconds(server: Server) -> float:
    """Processor time of the main thread so far."""
    return server.look().total("lab_worker_cpu_seconds_total", worker="main")


LOADS = {"cheap": cheap, "expensive": expensive, "steady": steady}


def arm(name: str, load: str, workers: int, model: str = "ramcloud") -> Arm:
    """RAMCloud's model with so many workers: processes, for threads of Python would wait for its lock instead."""
    kind = {} if model == "nodejs" else {"worker_kind": "process"}
    return Arm(name, model, {"workers": workers, **kind}, parameters={"load": load})


EXPERIMENT = Experiment(
    name="dispatch-bottleneck",
    chapter="models",
    question="One dispatcher hands every request to a worker. Do more workers make the server faster?",
    predict=f"From {FEW} worker to {MANY}: how does throughput change for requests of a few µs, and of {SERVICE}?",
    arms=(
        arm("cheap, 1 worker", "cheap", FEW),
        arm("cheap, 4 workers", "cheap", MANY),
        arm("expensive, 1 worker", "expensive", FEW),
        arm("expensive, 4 workers", "expensive", MANY),
        arm("handed off", "steady", FEW),
        arm("not handed off", "steady", FEW, "nodejs"),
    ),
    trial=trial,
    programs=("wrk",),
    checks=(
        Check(
            "expensive-scales",
            "expensive requests keep the workers busy, so four do nearly four times as much",
            RAMCLOUD,
            "at least 3 times, spreads apart",
            ratio(RATE, "expensive, 4 workers", to="expensive, 1 worker", least=3),
        ),
        Check(
            "hand-off-costs",
            "a hand-off costs more than it takes to execute a cheap request in place",
            "RAMCloud, WorkerManager.cc: waking a worker may take 50 µs, so it spins for 10 ms before it sleeps",
            "server cpu a request at least twice that of a loop without hand-off, spreads apart",
            ratio(COST, "handed off", to="not handed off", least=2),
        ),
        Check(
            "cheap-stays-flat",
            "cheap requests wait for the dispatcher, not for workers, so more of these change nothing",
            RAMCLOUD,
            "within 10 %",
            ratio(RATE, "cheap, 4 workers", to="cheap, 1 worker", least=0.9, most=1.1),
            cores=CORES,
        ),
        Check(
            "dispatcher-is-busy",
            "and it is the dispatcher that has no time left",
            RAMCLOUD,
            "at least 90 % of a core",
            between("cheap, 4 workers", BUSY, least=90),
            cores=CORES,
        ),
    ),
    controls=(
        Control(
            "as-many-workers",
            "both have one worker",
            (arm("expensive, 4 workers", "expensive", FEW),),
            ("expensive-scales",),
        ),
        Control("no-hand-off", "neither hands off", (arm("handed off", "steady", FEW, "nodejs"),), ("hand-off-costs",)),
        Control(
            "expensive-ones",
            "the requests that should be cheap are expensive, too",
            (arm("cheap, 4 workers", "expensive", MANY), arm("cheap, 1 worker", "expensive", FEW)),
            ("cheap-stays-flat", "dispatcher-is-busy"),
        ),
    ),
    explanation="""\
RAMCloud's dispatch thread polls the network, reads every request, hands it to a worker and sends the answer. That
buys two things: a hot connection is spread over all workers (`hot-connections`), and a slow request holds up nobody
(`event-loop-blocking`).

The price is paid for every request, also by those that take less time than the hand-off: putting it into a queue,
waking the worker, waking the dispatcher for the answer. And the dispatcher is one thread. As soon as it has no time
left, throughput is what one thread can dispatch, however many workers wait. That can be seen only where generator,
dispatcher and two workers have a core each: on fewer, a worker more takes its time from the dispatcher, and throughput
says how the scheduler shares them out. So these two claims need four cores.

RAMCloud's dispatcher spins on its network card, and its workers for 10 ms on their next request, so under load nobody
has to be woken. Our workers are processes that sleep: request and answer are serialised, go through a socket each, and
each wakes somebody.

Expensive requests do not care: the dispatcher is idle most of the time, and every worker adds its share.
""",
)
