"""Processes add to one counter: without a lock updates are lost, with one they wait, with a counter each neither."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
import sys
import time
from typing import TYPE_CHECKING

from lab.harness.checks import always
from lab.harness.experiment import Check, Control, Experiment
from lab.harness.observation import Arm, Observation, Quantity
from lab.harness.trial import TrialError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lab.harness.trial import Trial

WORKERS = 4
UPDATES = 250_000
"""Of each worker: together they take many times as long as the kernel lets one run while others wait."""
SLOT = struct.Struct("=Q")
SLOT_BYTES = 64
"""A cache line for each figure, so that counters of different workers share none."""
READY_SECONDS, READY_POLL_SECONDS = 10.0, 0.001

STORES = "a load, an addition and a store; Intel SDM vol. 3A, 8.1: only a locked instruction makes them one step"
COUNTERS = "McKenney, Is Parallel Programming Hard, chapter Counting: a counter for each thread, which no other writes"
LOCK = "flock(2), LOCK_EX: one holder at a time, across processes"


class Slots:
    """Figures in memory that is mapped shared, so that a fork's children write to the same page as their parent."""

    def __init__(self, count: int) -> None:
        self._memory = mmap.mmap(-1, count * SLOT_BYTES)

    def __getitem__(self, slot: int) -> int:
        value: int = SLOT.unpack_from(self._memory, slot * SLOT_BYTES)[0]
        return value

    def __setitem__(self, slot: int, value: int) -> None:
        SLOT.pack_into(self._memory, slot * SLOT_BYTES, value)


def unlocked(counters: Slots, slot: int, updates: int, _lock: int) -> int:
    """Read, compute, write: whoever wrote in between is overwritten."""
    for _ in range(updates):
        counters[slot] = counters[slot] + 1
    return 0


def locked(counters: Slots, slot: int, updates: int, lock: int) -> int:
    """The same, one at a time; how often it had to be waited for."""
    waits = 0
    for _ in range(updates):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waits += 1
            fcntl.flock(lock, fcntl.LOCK_EX)
        counters[slot] = counters[slot] + 1
        fcntl.flock(lock, fcntl.LOCK_UN)
    return waits


UPDATE: dict[str, Callable[[Slots, int, int, int], int]] = {"unlocked": unlocked, "locked": locked}


def trial(trial: Trial) -> Observation:
    """All workers at once, each so many updates of the counter that is its own, or everybody's."""
    workers, counters = trial.parameter("workers"), trial.parameter("counters")
    values, ready, waits = Slots(counters), Slots(workers + 1), Slots(workers)

    def work(worker: int) -> None:
        with opened(trial.folder / "lock") as lock:
            ready[worker] = 1
            while not ready[workers]:
                pass
            waits[worker] = UPDATE[trial.parameter("update")](values, worker % counters, UPDATES, lock)

    os.sched_setaffinity(0, trial.server_cpus | trial.client_cpus)
    with forked(workers, work) as finish:
        wait_for_all(ready, workers)
        begun = time.perf_counter()
        ready[workers] = 1
        finish()
        seconds = time.perf_counter() - begun
    made, kept = workers * UPDATES, sum(values[counter] for counter in range(counters))
    return Observation(
        {
            "lost": Quantity(made - kept),
            "lost share": Quantity((made - kept) / made * 100, "%"),
            "waits": Quantity(sum(waits[worker] for worker in range(workers))),
            "time an update": Quantity(seconds / made * 1e9, "ns"),
        },
        shares={"updates": {"kept": kept, "lost": made - kept}},
    )


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """The lock's file, opened by this process: flock tells open files apart, not processes."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def forked(workers: int, work: Callable[[int], None]) -> Iterator[Callable[[], None]]:
    """Child processes that do `work`, and a function that waits for their end. Raises TrialError where one failed."""
    running = {child_of(work, number) for number in range(workers)}

    def finish() -> None:
        while running:
            pid = next(iter(running))
            _, status = os.waitpid(pid, 0)
            running.discard(pid)
            if status:
                raise TrialError(f"a worker ended with {os.waitstatus_to_exitcode(status)}; its words are in the log")

    try:
        yield finish
    finally:
        for pid in running:
            os.kill(pid, 9)
            os.waitpid(pid, 0)


def child_of(work: Callable[[int], None], number: int) -> int:
    """The process of one worker."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        work(number)
        status = 0
    except BaseException as error:  # noqa: BLE001 - it must not go on as its parent would
        print(f"worker {number}: {error!r}", file=sys.stderr)
    finally:
        os._exit(status)


def wait_for_all(ready: Slots, workers: int) -> None:
    """Return when every worker says that it is ready. Raises TrialError."""
    deadline = time.monotonic() + READY_SECONDS
    while not all(ready[worker] for worker in range(workers)):
        if time.monotonic() > deadline:
            raise TrialError(f"not all of {workers} workers were ready within {READY_SECONDS:.0f} s: run it again")
        time.sleep(READY_POLL_SECONDS)


def arm(name: str, update: str = "", *, workers: int = WORKERS, counters: int = 1) -> Arm:
    """So many processes on so many counters."""
    return Arm(name, parameters={"update": update or name, "workers": workers, "counters": counters})


EXPERIMENT = Experiment(
    name="lost-updates",
    chapter="process and thread",
    question=f"{WORKERS} workers add 1 to a counter in shared memory, {UPDATES:,} times each. What does it say at the "
    "end?",
    predict="How many updates are lost without a lock, with a lock, and with a counter for each worker?",
    arms=(arm("unlocked"), arm("locked"), arm("sharded", "unlocked", counters=WORKERS)),
    trial=trial,
    checks=(
        Check(
            "unlocked-loses",
            "a read, a computation and a write of the same memory by several workers lose updates",
            STORES,
            "lost at least 1, in every trial",
            always("unlocked", "lost", least=1),
            timed=False,
            shows=("P7",),
        ),
        Check(
            "lock-loses-none",
            "with a lock none is lost",
            LOCK,
            "lost 0",
            always("locked", "lost", 0, 0),
            timed=False,
            shows=("P8",),
        ),
        Check(
            "lock-waits",
            "and workers wait for it",
            LOCK,
            "waits at least 1",
            always("locked", "waits", least=1),
            timed=False,
            shows=("P8",),
        ),
        Check(
            "shards-lose-none",
            "a counter for each worker needs no lock, and loses none",
            COUNTERS,
            "lost 0",
            always("sharded", "lost", 0, 0),
            timed=False,
        ),
    ),
    controls=(
        Control(
            "one-worker",
            "one worker alone races with nobody, and waits for nobody",
            (arm("unlocked", workers=1), arm("locked", workers=1)),
            ("unlocked-loses", "lock-waits"),
        ),
        Control(
            "no-lock",
            "no lock, and one counter for all",
            (arm("locked", "unlocked"), arm("sharded", "unlocked")),
            ("lock-loses-none", "lock-waits", "shards-lose-none"),
        ),
    ),
    explanation="""\
`value = value + 1` is three steps: read, compute, write. A worker that is interrupted between the first and the last,
or that runs at the same moment on another processor, writes back what has become stale, and every update that others
made meanwhile is gone. Nothing tells anybody: the counter is a good number, only too small.

The workers here are processes on a page of shared memory, so no interpreter's lock hides the race, and no setting had
to be changed to make it show. Threads share *all* of their memory, and so have this race wherever they write; processes
have it only where they asked for it. Python's GIL does not prevent it: it makes each *instruction* of the interpreter
safe, not a sequence of them. That a bare `value += 1` of threads happens to survive in CPython from 3.10 on is an
accident of one interpreter, which a free-threaded build, or a call in the expression, ends.

A lock makes the three steps one, and whoever comes meanwhile waits: compare the time an update takes (`flock` is a
system call each way; a lock in shared memory is cheaper, until it has to be waited for). A counter for each worker,
added up when somebody asks, shares nothing: no update is lost and no lock is needed. That is why the lab's own counters
lie in a block for each worker, and why `reuseport` gives each worker a queue.
""",
)
