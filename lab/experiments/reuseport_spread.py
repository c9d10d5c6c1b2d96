"""SO_REUSEPORT picks a listener by a hash: even for many connections, lumpy for few."""

from __future__ import annotations

import math
import os
from collections import Counter
from statistics import pstdev
from typing import TYPE_CHECKING

from lab.experiments import theory
from lab.harness.checks import always, between, number
from lab.harness.experiment import Check, Control, Experiment, Finding
from lab.harness.observation import Arm, Observation, Quantity
from lab.measure.statistics import evenness

if TYPE_CHECKING:
    from lab.harness.checks import Judge
    from lab.harness.experiment import Results
    from lab.harness.trial import Server, Trial

FEW = 8
"""Connections on two workers: a small service's connection pool."""
LUMPINESS = math.sqrt(FEW * 0.25) / (FEW / 2)
"""Deviation over mean of a worker's share, if each connection is a coin's toss: √(N p (1 - p)) / (N p)."""
EVEN = math.comb(FEW, FEW // 2) / 2**FEW
"""The chance that both workers get as many."""
ONE_SIDED = 2 * (1 + FEW) / 2**FEW
"""The chance that one of them gets all, or all but one."""
CHANCE = 0.001
CPUS = 2
"""Processors that the steered arm connects from, in turn."""
BUSIEST, BY_WORKER = "busiest", "connections by worker"
AS_TOLD = "at the worker that the program names"

LWN = (
    "LWN 542629 (Kerrisk, 2013): reuseport spreads uniformly; net/core/sock_reuseport.c: by the hash of the four-tuple"
)
BINOMIAL = "the binomial distribution"


def trial(trial: Trial) -> Observation:
    """Connect one by one, in rounds, and note who answers."""
    workers: int = trial.arm.options["workers"]
    rounds, size = trial.parameter("rounds" if not trial.quick else "quick rounds"), trial.parameter("connections")
    cpus = sorted(trial.server_cpus | trial.client_cpus)[:CPUS]
    with trial.serving() as server:
        answered = [asked_from(cpus[number % len(cpus)], size, trial, server) for number in range(rounds)]
    told = [str(cpus[number % len(cpus)] % workers) for number in range(rounds)]
    names = [str(worker) for worker in range(workers)]
    counts = {name: sum(one.count(name) for one in answered) for name in names}
    total, share = rounds * size, 1 / workers
    deviation = math.sqrt(total * share * (1 - share))
    shares_of_a_round = [one.count("0") for one in answered]
    return Observation(
        {
            "connections": Quantity(total),
            "farthest from even": Quantity(max(abs(n - total * share) for n in counts.values()) / deviation, "sd"),
            BUSIEST: Quantity(max(counts.values()) / total * 100, "%"),
            AS_TOLD: Quantity(
                sum(one.count(worker) for one, worker in zip(answered, told, strict=True)) / total * 100, "%"
            ),
            "processors that asked": Quantity(len(set(cpus[:rounds]))),
            "deviation / mean of a round": Quantity(pstdev(shares_of_a_round, size * share) / (size * share)),
        },
        shares={
            BY_WORKER: {name: float(count) for name, count in counts.items()},
            "rounds by connections on worker 0": {
                str(n): float(shares_of_a_round.count(n)) for n in range(size + 1) if size == FEW
            },
        },
    )


def asked_from(cpu: int, connections: int, trial: Trial, server: Server) -> list[str]:
    """Workers of so many connections from one processor: the one that sends a SYN to a neighbour also handles it."""
    os.sched_setaffinity(0, {cpu})
    return [trial.ask(server.address) for _ in range(connections)]


def arm(name: str, workers: int, connections: int, rounds: int, model: str = "reuseport", **options: str) -> Arm:
    """`rounds` times so many connections; half of the rounds when quick."""
    parameters = {"connections": connections, "rounds": rounds, "quick rounds": rounds // 2}
    return Arm(name, model, {"workers": workers, "worker_kind": "process", **options}, parameters=parameters)


def uniform(arm: str) -> Judge:
    """All trials' connections together: the more there are, the smaller the unevenness that shows."""

    def judge(results: Results) -> Finding:
        together: Counter[str] = Counter()
        for observation in results[arm].observations:
            together.update(observation.shares[BY_WORKER])
        chance = evenness(list(together.values()))
        return Finding(f"{sum(together.values()):,.0f} connections, p {number(chance)}", chance > CHANCE)

    return judge


def within_chance(rounds: int = 100) -> tuple[float, float]:
    """Bounds of the deviation of so many rounds, three standard errors around what the binomial says."""
    error = 3 * LUMPINESS / math.sqrt(2 * rounds)
    return LUMPINESS - error, LUMPINESS + error


LEAST, MOST = within_chance()

EXPERIMENT = Experiment(
    name="reuseport-spread",
    chapter="models",
    question="Each worker has a listener of its own, and the kernel tosses a coin. How even is that?",
    predict=f"{FEW} connections on two workers, a hundred times over: how many on the first? And 1,000 on four?",
    arms=(arm("few", 2, FEW, 200), arm("many", 4, 1000, 2), arm("steered", 4, 50, 4, steering="cpu")),
    trial=trial,
    checks=(
        Check(
            "many-are-even",
            "every worker's share is within three standard deviations of the same",
            LWN,
            "at most 3 standard deviations (sd)",
            between("many", "farthest from even", most=3),
            timed=False,
            shows=("L6",),
        ),
        Check(
            "many-are-uniform",
            "a spread like this one is not unlikely for a uniform choice",
            LWN,
            f"χ² over the connections of all trials, p above {CHANCE}",
            uniform("many"),
            timed=False,
        ),
        Check(
            "few-are-lumpy",
            f"of {FEW} connections on two workers, a worker's share deviates as a coin's tosses do",
            BINOMIAL,
            f"deviation / mean {LUMPINESS:.2f}, within three standard errors of 100 rounds ({LEAST:.2f} to {MOST:.2f})",
            between("few", "deviation / mean of a round", LEAST, MOST),
            timed=False,
            corrects=theory.COIN_IS_FAIR,
        ),
        Check(
            "program-decides",
            "a program on the sockets takes the hash's place: here the number of the processor names the worker",
            "socket(7), SO_ATTACH_REUSEPORT_CBPF: the program returns the number of the listener",
            f"100 % of the connections from each of {CPUS} processors at the worker of its number, in every trial",
            always("steered", AS_TOLD, least=100),
            timed=False,
            cores=CPUS,
        ),
    ),
    controls=(
        Control(
            "favourite",
            "one socket for all, and the kernel wakes the same worker again and again",
            (arm("many", 4, 1000, 2, "nginx", wakeup="exclusive"),),
            ("many-are-even", "many-are-uniform"),
        ),
        Control(
            "in-turn",
            "connections are handed out in turn instead of by a hash",
            (arm("few", 2, FEW, 200, "memcached", assign="round-robin"),),
            ("few-are-lumpy",),
        ),
        Control("not-steered", "the hash decides", (arm("steered", 4, 50, 4),), ("program-decides",)),
    ),
    # Chance exceeds three standard deviations now and then; the median of several trials hardly ever.
    quick_repetitions=3,
    explanation=f"""\
With `SO_REUSEPORT` every worker opens a listener of its own on the same port. The kernel hashes the connection's two
addresses and two ports, and the hash picks the listener: no shared queue, no lock, no herd. The hash knows nothing of
what the workers do.

Over many connections that is as even as a fair die. Over few it is as uneven as a fair die, too: of {FEW} connections
on two workers, both get {FEW // 2} only once in {1 / EVEN:.1f} rounds, and once in {1 / ONE_SIDED:.1f} rounds one of
them gets {FEW - 1} or all {FEW}.
A service with a small pool of long-lived connections lives with what the coin gave it at the start. Handing out in
turn, as memcached does, cannot be beaten by chance there.

Whoever knows better than the hash may attach a small program that returns the number of the listener. `--steering cpu`
takes the processor on which the packet arrived, so that a connection stays on the processor that its network queue
feeds. That is as even as the packets are: connections that were made on one processor all come to one worker, and those
from another to the next.
""",
)
