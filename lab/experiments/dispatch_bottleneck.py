"""One thread hands out all requests. When is it the bottleneck, and what does a hand-off cost?"""

from __future__ import annotations

import operator
import time
from typing import TYPE_CHECKING, NamedTuple

from lab.harness.checks import between, every_trial, ratio
from lab.harness.experiment import Check, Control, Experiment
from lab.harness.observation import LITTLES_LAW, Arm, Observation, Quantity
from lab.load.plan import Stream

if TYPE_CHECKING:
    from lab.harness.trial import Server, Trial

FEW, MANY = 1, 4
CLIENTS = 16
SLEEP = "5ms"
STEADY_RATE = 1000.0
"""Requests a second at which a request is priced: nobody is saturated, so nothing is shared between several of them."""
LONG_PATH, LONG_RATE = "/work?cpu=5ms", 60.0
LARGE_PATH, LARGE_RATE = "/stream?bytes=100000", 200.0
"""Of controls: requests that keep a worker busy far longer than the dispatcher, and the other way round."""
LEAD_SECONDS = 0.3
"""Until a load has begun, and before its end: processor time counts in between."""
CORES = 4
"""Generator, dispatcher and two workers: with fewer, they take the time from one another."""
TOLERANCE = 0.1
ONE_TRIAL = 0.3
"""By so much more the processor time of one request was seen to differ from one trial to the next on a virtual machine
whose neighbours are busy; a control is twice as far away."""

RATE, COST, BUSY = "requests a second", "cpu a request", "dispatcher busy"
DEMAND = "dispatcher's cpu a request"
DISPATCHER_BOUND, WORKERS_BOUND = "most that the dispatcher can do", "most that the workers can do"
RAMCLOUD = "RAMCloud, WorkerManager.cc: the dispatch thread owns all connections"
UTILISATION_LAW = "utilisation law: a resource that a request needs for D seconds serves at most 1/D requests a second"


class Used(NamedTuple):
    """Requests of a server so far, and the processor seconds that they took."""

    requests: float
    dispatcher: float
    workers: float


def trial(trial: Trial) -> Observation:
    """The arm's load: cheap requests as fast as they go, or at a steady rate, or requests that sleep."""
    return LOADS[trial.parameter("load")](trial)


def cheap(trial: Trial) -> Observation:
    """As fast as they go. A generator in Python would be the bottleneck itself, so it is wrk."""
    with trial.serving() as server, trial.hammering(server, seconds_of(trial)) as finish:
        spent, seconds = while_it_lasts(trial, server)
        load = finish()
    return Observation({RATE: load.pop("rate"), BUSY: Quantity(spent.dispatcher / seconds * 100, "%"), **load})


def sleeping(trial: Trial) -> Observation:
    """Clients whose requests wait for some milliseconds each, as for a database."""
    requests = Stream(path=f"/work?block={SLEEP}", connections=CLIENTS)
    with trial.serving() as server, trial.loading(server, requests, seconds=seconds_of(trial)) as loading:
        spent, seconds = while_it_lasts(trial, server)
        figures = loading.result().quantities()
    return Observation({**figures, RATE: figures["rate"], BUSY: Quantity(spent.dispatcher / seconds * 100, "%")})


def steady(trial: Trial) -> Observation:
    """Requests at a rate that nobody minds: what does each cost the dispatcher, and what the workers?"""
    requests = Stream(path=trial.parameter("path"), connections=CLIENTS, rate=trial.parameter("rate"))
    with (
        trial.serving() as server,
        trial.loading(server, requests, seconds=seconds_of(trial)) as loading,
    ):
        spent, _ = while_it_lasts(trial, server)
        figures = loading.result().quantities()
    # Processor time a request does not depend on how steady the load was, nor on how late a busy generator was.
    figures.pop(LITTLES_LAW, None)
    figures |= {
        COST: Quantity((spent.dispatcher + spent.workers) / spent.requests * 1e6, "µs"),
        DEMAND: Quantity(spent.dispatcher / spent.requests * 1e6, "µs"),
    }
    return Observation(figures | bounds(spent, trial.arm.options["workers"]))


def bounds(spent: Used, workers: int) -> dict[str, Quantity]:
    """Most that each side could do, by the utilisation law; nothing where there are not two sides."""
    if not (spent.dispatcher and spent.workers):
        return {}
    return {
        DISPATCHER_BOUND: Quantity(spent.requests / spent.dispatcher, "1/s"),
        WORKERS_BOUND: Quantity(workers * spent.requests / spent.workers, "1/s"),
    }


def while_it_lasts(trial: Trial, server: Server) -> tuple[Used, float]:
    """Requests and processor seconds in the middle of a load, and the length of that middle."""
    server.wait_until_asked(CLIENTS)
    time.sleep(LEAD_SECONDS)
    before, begun = used(server), time.monotonic()
    time.sleep(seconds_of(trial) - 2 * LEAD_SECONDS)
    spent = Used(*(after - earlier for after, earlier in zip(used(server), before, strict=True)))
    return spent, time.monotonic() - begun


def used(server: Server) -> Used:
    """So far."""
    sample = server.look()
    requests = sum(worker["requests"] for worker in sample.state["workers"])
    total = sample.total("lab_worker_cpu_seconds_total")
    dispatcher = sample.total("lab_worker_cpu_seconds_total", worker="main")
    return Used(requests, dispatcher, total - dispatcher)


def seconds_of(trial: Trial) -> float:
    """There are eight arms, so each is short; but to look costs a server some ms, which many requests have to share."""
    quick = 2.0 if trial.parameter("load") == "steady" else 1.0
    return quick if trial.quick else 3.0


LOADS = {"cheap": cheap, "sleeping": sleeping, "steady": steady}


def arm(name: str, load: str, workers: int, kind: str = "process") -> Arm:
    """RAMCloud's model with so many workers."""
    return Arm(name, "ramcloud", {"workers": workers, "worker_kind": kind}, parameters={"load": load})


def priced(
    name: str,
    workers: int,
    kind: str = "process",
    *,
    model: str = "ramcloud",
    path: str = "/",
    rate: float = STEADY_RATE,
) -> Arm:
    """The same under a steady load; NodeJS's model has no dispatcher and no workers."""
    options = {"workers": workers, **({} if model == "nodejs" else {"worker_kind": kind})}
    return Arm(name, model, options, parameters={"load": "steady", "path": path, "rate": rate})


ONE, FOUR, THREADS, IN_PLACE = "steady, 1 worker", "steady, 4 workers", "steady, 4 threads", "steady, no hand-off"

EXPERIMENT = Experiment(
    name="dispatch-bottleneck",
    chapter="models",
    question="One dispatcher hands every request to a worker. Do more workers make the server faster?",
    predict=f"From {FEW} worker to {MANY}: how does throughput change for requests of a few µs, and for requests that "
    f"sleep {SLEEP}? What does a request cost the dispatcher in both cases?",
    arms=(
        arm("cheap, 1 worker", "cheap", FEW),
        arm("cheap, 4 workers", "cheap", MANY),
        arm("sleeping, 1 worker", "sleeping", FEW),
        arm("sleeping, 4 workers", "sleeping", MANY),
        priced(ONE, FEW),
        priced(FOUR, MANY),
        priced(THREADS, MANY, "thread"),
        priced(IN_PLACE, FEW, model="nodejs"),
    ),
    trial=trial,
    programs=("wrk",),
    checks=(
        Check(
            "waits-overlap",
            "requests that sleep occupy a worker and no processor, so four workers wait for four at a time: waits "
            "overlap, which is not to say that work scales",
            RAMCLOUD,
            "at least 3 times, spreads apart",
            ratio(RATE, "sleeping, 4 workers", to="sleeping, 1 worker", least=3),
            timed=True,
        ),
        Check(
            "demand-stays",
            "a request costs the dispatcher the same, however many workers there are",
            UTILISATION_LAW,
            f"dispatcher's cpu a request with {MANY} workers within {TOLERANCE:.0%} of that with {FEW}",
            ratio(DEMAND, FOUR, to=ONE, least=1 - TOLERANCE, most=1 + TOLERANCE, one_trial=ONE_TRIAL),
            timed=True,
        ),
        Check(
            "dispatcher-is-the-limit",
            "and the dispatcher could not keep four workers busy: with cheap requests, it has no time left before they",
            UTILISATION_LAW,
            "1/D of the dispatcher below 4/D of the workers, in every trial",
            every_trial(FOUR, DISPATCHER_BOUND, WORKERS_BOUND, holds=operator.lt),
            timed=True,
            shows=("L4",),
        ),
        Check(
            "hand-off-costs",
            "a hand-off costs more than it takes to execute a cheap request in place",
            "RAMCloud, WorkerManager.cc: waking a worker may take 50 µs, so it spins for 10 ms before it sleeps",
            "server cpu a request at least 1.5 times that of a loop without hand-off, spreads apart",
            ratio(COST, ONE, to=IN_PLACE, least=1.5),
            timed=True,
        ),
        Check(
            "threads-are-handed-cheaper",
            "to a thread of the same process less than to another process: nothing is serialised, or sent",
            "services/workers: a queue in memory for threads, a socket for processes",
            "server cpu a request with processes at least 1.4 times that with threads, spreads apart",
            ratio(COST, FOUR, to=THREADS, least=1.4),
            timed=True,
        ),
        Check(
            "cheap-stays-flat",
            "cheap requests wait for the dispatcher, not for workers, so more of these change nothing",
            RAMCLOUD,
            "within 10 %",
            ratio(RATE, "cheap, 4 workers", to="cheap, 1 worker", least=0.9, most=1.1),
            timed=True,
            cores=CORES,
        ),
        Check(
            "dispatcher-is-busy",
            "and it is the dispatcher that has no time left",
            RAMCLOUD,
            "at least 90 % of a core",
            between("cheap, 4 workers", BUSY, least=90),
            timed=True,
            cores=CORES,
        ),
    ),
    controls=(
        Control(
            "as-many-workers",
            "both have one worker",
            (arm("sleeping, 4 workers", "sleeping", FEW),),
            ("waits-overlap",),
        ),
        Control(
            "no-hand-off",
            "the one worker executes in place, as the loop without a dispatcher does",
            (priced(ONE, FEW, model="nodejs"),),
            ("hand-off-costs",),
        ),
        Control(
            "large-responses",
            "four workers make responses of 100 kB, and every byte goes through the dispatcher",
            (priced(FOUR, MANY, path=LARGE_PATH, rate=LARGE_RATE),),
            ("demand-stays",),
        ),
        Control("no-threads", "all workers are processes", (priced(THREADS, MANY),), ("threads-are-handed-cheaper",)),
        Control(
            "long-ones",
            "the requests that should be cheap keep a worker busy",
            (
                priced(FOUR, MANY, path=LONG_PATH, rate=LONG_RATE),
                arm("cheap, 4 workers", "sleeping", MANY),
                arm("cheap, 1 worker", "sleeping", FEW),
            ),
            ("dispatcher-is-the-limit", "cheap-stays-flat", "dispatcher-is-busy"),
        ),
    ),
    explanation="""\
RAMCloud's dispatch thread polls the network, reads every request, hands it to a worker and sends the answer. That
buys two things: a hot connection is spread over all workers (`hot-connections`), and a slow request holds up nobody
(`event-loop-blocking`).

The price is paid for every request, also by those that take less time than the hand-off: putting it into a queue,
waking the worker, waking the dispatcher for the answer. And the dispatcher is one thread. By the *utilisation law* a
thread that needs D of processor time for a request serves at most 1/D a second. D is what is measured here: it does not
change with the number of workers, so neither does that limit. And with four of them it lies below what the workers can
do, so the dispatcher is the first that has no time left. To see throughput itself stay flat takes a core each for
generator, dispatcher and two workers; on fewer, a worker more takes its time from the dispatcher, and throughput says
how the scheduler shares them out. So the last two claims need four cores.

RAMCloud's dispatcher spins on its network card, and its workers for 10 ms on their next request, so under load nobody
has to be woken. Our workers are processes that sleep: request and answer are serialised, go through a socket each, and
each wakes somebody. Handed to threads a request costs less, as it never leaves the memory of the process; but these
share the dispatcher's GIL, so together they have one core: at most 1/cost a second, with however many threads.

Requests that sleep do not care: the dispatcher is idle most of the time, and four workers sleep four times as much at
once. That is overlap, and nothing has become faster by it: work for the processor takes as long as there are cores.
""",
)
