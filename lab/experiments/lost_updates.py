"""Threads add to one counter: without a lock some updates are lost, with one they wait, with a counter each neither."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lab.harness.checks import always
from lab.harness.experiment import Check, Control, Experiment
from lab.harness.observation import Arm, Observation, Quantity

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.harness.trial import Trial

THREADS = 4
UPDATES = 250_000
"""Of each thread: together they take many times as long as the kernel lets one run while others wait."""
SWITCH_INTERVAL_SECONDS = 10e-6
"""CPython's is 5 ms: then threads change places 200 times a second, and the race takes longer to show."""

GIL = "Python/ceval_gil.c: the GIL may be handed over at each call and each turn of a loop, not within an instruction"
COUNTERS = "McKenney, Is Parallel Programming Hard, chapter Counting: a counter for each thread, which no other writes"
LOCK = "docs.python.org, threading.Lock: one holder at a time"


@dataclass(slots=True)
class Counter:
    """A number, and how often somebody had to wait for it."""

    value: int = 0
    waits: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def successor(value: int) -> int:
    """What the new value is: a call, and with it a place where another thread may come in between."""
    return value + 1


def unlocked(counter: Counter) -> None:
    """Read, compute, write: whoever wrote in between is overwritten."""
    counter.value = successor(counter.value)


def locked(counter: Counter) -> None:
    """The same, one at a time."""
    waited = not counter.lock.acquire(blocking=False)
    if waited:
        counter.lock.acquire()
    counter.value = successor(counter.value)
    counter.waits += waited
    counter.lock.release()


UPDATE: dict[str, Callable[[Counter], None]] = {"unlocked": unlocked, "locked": locked}


def trial(trial: Trial) -> Observation:
    """All threads at once, each so many updates of the counter that is its own, or everybody's."""
    threads: int = trial.parameter("threads")
    counters = [Counter() for _ in range(trial.parameter("counters"))]
    update = UPDATE[trial.parameter("update")]
    begin = threading.Barrier(threads + 1)

    def work(counter: Counter) -> None:
        begin.wait()
        for _ in range(UPDATES):
            update(counter)

    workers = [threading.Thread(target=work, args=(counters[n % len(counters)],)) for n in range(threads)]
    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    try:
        for worker in workers:
            worker.start()
        begin.wait()
        begun = time.perf_counter()
        for worker in workers:
            worker.join()
        seconds = time.perf_counter() - begun
    finally:
        sys.setswitchinterval(usual)
    made, kept = threads * UPDATES, sum(counter.value for counter in counters)
    return Observation(
        {
            "lost": Quantity(made - kept),
            "lost share": Quantity((made - kept) / made * 100, "%"),
            "waits": Quantity(sum(counter.waits for counter in counters)),
            "time an update": Quantity(seconds / made * 1e9, "ns"),
        },
        shares={"updates": {"kept": kept, "lost": made - kept}},
    )


def arm(name: str, update: str = "", *, threads: int = THREADS, counters: int = 1) -> Arm:
    """So many threads on so many counters."""
    return Arm(name, parameters={"update": update or name, "threads": threads, "counters": counters})


EXPERIMENT = Experiment(
    name="lost-updates",
    chapter="process and thread",
    question=f"{THREADS} threads add 1 to a counter, {UPDATES:,} times each. What does the counter say at the end?",
    predict="How many updates are lost without a lock, with a lock, and with a counter for each thread?",
    arms=(arm("unlocked"), arm("locked"), arm("sharded", "unlocked", counters=THREADS)),
    trial=trial,
    checks=(
        Check(
            "unlocked-loses",
            "a read, a computation and a write by several threads lose updates",
            GIL,
            "lost at least 1, in every trial",
            always("unlocked", "lost", least=1),
        ),
        Check("lock-loses-none", "with a lock none is lost", LOCK, "lost 0", always("locked", "lost", 0, 0)),
        Check("lock-waits", "and threads wait for it", LOCK, "waits at least 1", always("locked", "waits", least=1)),
        Check(
            "shards-lose-none",
            "a counter for each thread needs no lock, and loses none",
            COUNTERS,
            "lost 0",
            always("sharded", "lost", 0, 0),
        ),
    ),
    controls=(
        Control(
            "one-thread",
            "one thread alone races with nobody, and waits for nobody",
            (arm("unlocked", threads=1), arm("locked", threads=1)),
            ("unlocked-loses", "lock-waits"),
        ),
        Control(
            "no-lock",
            "no lock, and one counter for all",
            (arm("locked", "unlocked"), arm("sharded", "unlocked")),
            ("lock-loses-none", "lock-waits", "shards-lose-none"),
        ),
    ),
    explanation=f"""\
`value = f(value)` is three steps: read, compute, write. A thread that is interrupted between the first and the last
writes back what has become stale, and every update that others made meanwhile is gone.

The GIL does not prevent that. It makes each *instruction* of the interpreter safe, not a sequence of them. Since
CPython 3.10 it changes hands only at calls and at each turn of a loop, so a bare `value += 1` happens to survive there:
an accident of one interpreter that a free-threaded build, or a call in the expression, ends. (Threads here change
places every {SWITCH_INTERVAL_SECONDS * 1e6:.0f} µs, not every 5 ms: a short run then shows what a long one would.)

A lock makes the three steps one, and whoever comes meanwhile waits: compare the time an update takes. A counter for
each thread, added up when somebody asks, shares nothing: no update is lost, and no
lock of ours is waited for (the GIL still is). That is why the lab's own
counters lie in a block for each worker, and why `reuseport` gives each worker a queue.
""",
)
