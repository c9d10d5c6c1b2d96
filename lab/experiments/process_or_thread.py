"""Threads or processes: which work do they share the processors for, and what does each worker cost?"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from lab.experiments import theory
from lab.gil import models_have_gil
from lab.harness.checks import shown
from lab.harness.experiment import Check, Control, Experiment, Finding
from lab.harness.observation import FAILED, GENERATOR_CPU, LITTLES_LAW, Arm, Observation, Quantity
from lab.load.plan import Stream
from lab.measure import processes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.harness.experiment import Results
    from lab.harness.trial import LoadResult, Server, Trial

FEW_WORKERS, MANY_WORKERS = 2, 8
CONNECTIONS_A_WORKER = 4
"""One is served, and so many wait that no worker is idle while the generator waits for a core of its own."""
QUICK_SECONDS, SECONDS = 0.8, 2.5
WARM_UP_SECONDS = 0.2
WATCHED_SHARE = 0.7
"""Of that time: all workers have work from the first to the last moment."""
CPU, BLOCK = "cpu=5ms&gil={}", "block=20ms"
BLOCK_SECONDS = 0.02
ONE_AT_A_TIME, BOTH_AT_ONCE = 1.2, 1.6
"""Of two workers, how many can go on: 1 where one waits for the other, 2 where none does."""
SLOWER = 0.7
"""Threads' rate, in processes' rates: half where one waits for the other, the same where none does. Not of `hold-c`:
how long that takes, each process finds out for itself, and not to the tenth.
"""
BUSY_MACHINE, CLEARLY_BOTH = 0.2, 1.9
"""A thread looks after the lock every 5 ms, and where cores are short it waits in line for that: then it seems to go
on. So a busy machine decides nothing, except where both threads go on all the time. And who waits for a core answers
less, so there rates say nothing of the lock.
"""
SAME, UNHINDERED = 0.1, 0.8
MEBIBYTE = 1 << 20
GOING_ON, IN_LINE = "workers that can go on", "share spent waiting for a core"
HAS_GIL = "models have a GIL"

GIL = "docs.python.org, glossary: global interpreter lock"
HASHLIB = "docs.python.org, hashlib: the GIL is released for data larger than 2,047 bytes"
MEMORY = "proc(5), smaps_rollup: Pss counts a page shared by n processes 1/n to each"


def trial(trial: Trial) -> Observation:
    """The same work on the same model, one kind of worker."""
    observation = Observation({HAS_GIL: Quantity(int(models_have_gil()))})
    loads: list[LoadResult] = []
    memory: dict[int, tuple[float, float]] = {}
    for workers, works in ((FEW_WORKERS, ("hold", "hold-c", "release")), (MANY_WORKERS, ("block",))):
        with trial.serving(all_cpus=True, workers=workers) as server:
            memory[workers] = memory_of(trial, server, workers)
            loads += [measure(trial, server, work, observation) for work in works]
    for number, kind in enumerate(("PSS", "USS")):
        few, many = memory[FEW_WORKERS][number], memory[MANY_WORKERS][number]
        observation.metrics |= {
            f"{kind} of {MANY_WORKERS} workers": Quantity(many / MEBIBYTE, "MiB"),
            f"{kind} a worker": Quantity((many - few) / (MANY_WORKERS - FEW_WORKERS) / MEBIBYTE, "MiB"),
        }
    observation.metrics[GENERATOR_CPU] = Quantity(max(load.cpu for load in loads))
    observation.metrics[FAILED] = Quantity(sum(load.failed for load in loads))
    if not trial.quick:  # of a few requests, one at the edge would be most of the tolerance
        laws = [load.littles_law for load in loads if load.littles_law]
        observation.metrics[LITTLES_LAW] = Quantity(max(laws, key=lambda law: abs(law - 1)))
    return observation


def measure(trial: Trial, server: Server, work: str, observation: Observation) -> LoadResult:
    """One kind of work, from as many connections as keep all workers busy."""
    before = server.look()
    workers = [(worker["pid"], worker["tid"]) for worker in server.state()["workers"] if worker["worker"] != "main"]
    connections = len(workers) * CONNECTIONS_A_WORKER
    stream = Stream(work, f"/work?{trial.parameter(work)}", connections=connections)
    seconds = QUICK_SECONDS if trial.quick else SECONDS
    with trial.loading(server, stream, seconds=seconds, warm_up_seconds=WARM_UP_SECONDS) as loading:
        # One request was asked before any load, and then the generator starts: no worker has anything to do meanwhile.
        server.wait_until_asked(before.total("lab_requests_total") + connections)
        since, on_core, in_line = scheduled_seconds(workers)
        time.sleep(seconds * WATCHED_SHARE)
        now, on_core_now, in_line_now = scheduled_seconds(workers)
        load = loading.result()
    after = server.look()

    def grown(name: str, **labels: str) -> float:
        return after.total(name, **labels) - before.total(name, **labels)

    answered = grown("lab_requests_total")
    figures = load.quantities()
    wall, running, waiting = now - since, on_core_now - on_core, in_line_now - in_line
    observation.latencies |= load.latencies(work, work)
    observation.metrics |= {
        f"{work}: rate": figures["rate"],
        f"{work}: p99": figures["p99"],
        f"{work}: {GOING_ON}": Quantity((running + waiting) / wall),
        f"{work}: {IN_LINE}": Quantity(waiting / (running + waiting or 1)),
        f"{work}: cpu a request": Quantity(grown("lab_worker_cpu_seconds_total") / answered * 1000, "ms"),
    }
    for kind in ("voluntary", "involuntary"):
        switches = grown("lab_worker_context_switches_total", kind=kind)
        observation.metrics[f"{work}: {kind} switches a request"] = Quantity(switches / answered)
    return load


def scheduled_seconds(workers: Sequence[tuple[int, int]]) -> tuple[float, float, float]:
    """Time of day, time that the workers have been on a core, and time that they have waited for one (not for a lock
    or a socket). By pid and tid: whoever asks the server for them waits for a core, too.
    """
    figures = [schedstat(pid, tid) for pid, tid in workers]
    return time.monotonic(), sum(on_core for on_core, _ in figures), sum(in_line for _, in_line in figures)


def schedstat(pid: int, tid: int) -> tuple[float, float]:
    """Seconds on a core, and seconds of waiting for one. Source: Linux, sched-stats.rst."""
    on_core, in_line, _ = Path(f"/proc/{pid}/task/{tid}/schedstat").read_text(encoding="ascii").split()
    return int(on_core) / 1e9, int(in_line) / 1e9


def memory_of(trial: Trial, server: Server, workers: int) -> tuple[float, float]:
    """PSS and USS of the whole server in bytes, once each worker has served a request."""
    for _ in range(workers):
        trial.ask(server.address)
    pids = processes.tree(server.peer.pid)
    return processes.pss_bytes(pids), processes.uss_bytes(pids)


def one_at_a_time(work: str, what: str) -> Check:
    """Threads share one lock, and so one core; without a lock they do as well as processes."""

    def judge(results: Results) -> Finding:
        threads, forked = (results[name].summary(f"{work}: {GOING_ON}") for name in ("threads", "processes"))
        text = f"threads {shown(threads)}, processes {shown(forked)}; {rates_of(results, work)}"
        if not results["threads"].median(HAS_GIL):
            least = min(threads["median"], forked["median"])
            return unless_busy(results, work, Finding(f"no GIL: {text}", least >= BOTH_AT_ONCE))
        as_fast = work == "hold" and threads_slower(results, work) is False
        holds = threads["median"] <= ONE_AT_A_TIME and forked["median"] >= BOTH_AT_ONCE and not as_fast
        if holds or threads["median"] >= CLEARLY_BOTH:
            return Finding(text, holds)
        return unless_busy(results, work, Finding(text, holds))

    return Check(
        f"{work}-needs-processes",
        f"{what}: of two threads one can go on, of two processes both; where there is no GIL, both of both",
        GIL,
        f"with a GIL threads ≤ {ONE_AT_A_TIME}, without one ≥ {BOTH_AT_ONCE}; processes ≥ {BOTH_AT_ONCE}"
        + (f". With a GIL, where cores are free, rate of threads : processes ≤ {SLOWER}" if work == "hold" else ""),
        judge,
        timed=True,
        shows=("P4",),
        corrects=theory.THREADS_USE_CORES if work == "hold" else None,
    )


def both_released(results: Results) -> Finding:
    """Threads that have let go of the lock go on both, and answer as many as processes do."""
    threads = results["threads"].summary(f"release: {GOING_ON}")
    text = f"threads {shown(threads)}; {rates_of(results, 'release')}"
    if threads["median"] >= BOTH_AT_ONCE and not threads_slower(results, "release"):
        return Finding(text, holds=True)
    return unless_busy(results, "release", Finding(text, holds=False))


def rates_of(results: Results, work: str) -> str:
    """Return the rates of both kinds."""
    return ", ".join(f"{name} {shown(results[name].summary(f'{work}: rate'))}" for name in ("threads", "processes"))


def threads_slower(results: Results, work: str) -> bool | None:
    """Return whether threads do clearly less than processes; None where cores were short, and rates do not tell."""
    if busy(results, work) > BUSY_MACHINE:
        return None
    threads, forked = (results[name].median(f"{work}: rate") for name in ("threads", "processes"))
    return threads <= SLOWER * forked


def busy(results: Results, work: str) -> float:
    """The share of their time for which workers waited for a core, in the arm where it was more."""
    return max(results[name].median(f"{work}: {IN_LINE}") for name in ("threads", "processes"))


def unless_busy(results: Results, work: str, finding: Finding) -> Finding:
    """The finding, or none where other programs had the cores: a thread that waits for one may hold the lock."""
    in_line = busy(results, work)
    if finding.holds or in_line <= BUSY_MACHINE:
        return finding
    return Finding(f"{finding.measured}; other programs had the cores for {in_line:.0%} of the workers' time", None)


def as_many_as_sleep(results: Results) -> Finding:
    """Both kinds answer as many as their workers can sleep through, and the one as many as the other."""
    threads, forked = (results[name].summary("block: rate") for name in ("threads", "processes"))
    times, expected = forked["median"] / threads["median"], MANY_WORKERS / BLOCK_SECONDS
    text = f"threads {shown(threads)}, processes {shown(forked)}: ratio {times:.3g}"
    unhindered = min(threads["median"], forked["median"]) >= UNHINDERED * expected
    return Finding(text, abs(times - 1) <= SAME and unhindered)


def processes_cost_more(results: Results) -> Finding:
    """Cost of one more worker."""
    threads, forked = (results[name].summary("PSS a worker") for name in ("threads", "processes"))
    private = ", ".join(f"USS {name} {shown(results[name].summary('USS a worker'))}" for name in results)
    return Finding(
        f"PSS: threads {shown(threads)}, processes {shown(forked)}; {private}", forked["min"] > threads["max"]
    )


def arm(name: str, worker_kind: str, release: str = CPU.format("release"), block: str = BLOCK) -> Arm:
    """memcached's model: each worker owns its connections, and which worker is only a matter of turns."""
    works = {"hold": CPU.format("hold"), "hold-c": CPU.format("hold-c"), "release": release, "block": block}
    return Arm(name, "memcached", {"worker_kind": worker_kind}, parameters=works)


EXPERIMENT = Experiment(
    name="process-or-thread",
    chapter="process and thread",
    question="The same server with threads and with processes: for which work are processes faster, and what does each "
    "worker cost?",
    predict=f"{FEW_WORKERS} workers on 2 cores, 5 ms of CPU a request that holds the GIL, or releases it: how many "
    f"requests a second with threads, with processes? {MANY_WORKERS} workers, 20 ms of sleep: how many? How much "
    "memory does one more worker take?",
    arms=(arm("threads", "thread"), arm("processes", "process")),
    trial=trial,
    checks=(
        one_at_a_time("hold", "Python code holds the GIL"),
        one_at_a_time("hold-c", "a call into C that never lets go of the GIL holds it too"),
        Check(
            "released-scales",
            "threads whose work lets go of the GIL can both go on",
            HASHLIB,
            f"threads ≥ {BOTH_AT_ONCE}; where cores are free, rate of threads : processes > {SLOWER}",
            both_released,
            timed=True,
            shows=("P7",),
        ),
        Check(
            "blocking-is-the-same",
            "work that waits needs no core: threads do as well as processes",
            "docs.python.org: time.sleep, like all that waits for a socket, releases the GIL",
            f"processes : threads 1 ± {SAME:g}, both ≥ {UNHINDERED:.0%} of workers / {BLOCK_SECONDS * 1000:.0f} ms",
            as_many_as_sleep,
            timed=True,
        ),
        Check(
            "processes-cost-memory",
            "isolation costs memory: one more process takes more than one more thread",
            MEMORY,
            "PSS a worker: processes > threads, spreads apart",
            processes_cost_more,
            timed=False,
            shows=("P4", "P7"),
        ),
    ),
    controls=(
        Control(
            "kinds-exchanged",
            "threads are called processes, and processes threads",
            (arm("threads", "process"), arm("processes", "thread")),
            ("hold-needs-processes", "hold-c-needs-processes", "processes-cost-memory"),
        ),
        Control(
            "never-released",
            "what should release the GIL, or sleep, holds it for as long",
            tuple(
                arm(name, kind, CPU.format("hold"), "cpu=20ms&gil=hold")
                for name, kind in (("threads", "thread"), ("processes", "process"))
            ),
            ("released-scales", "blocking-is-the-same"),
        ),
    ),
    repetitions=5,
    cores=2,
    explanation=f"""\
Threads share one interpreter, and on a build with the GIL one lock: only its holder runs Python code. So two threads
that compute share one core. `hold` is a loop in Python, in which the lock changes hands every 5 ms; `hold-c` is one
call into C that keeps it to the end, and differs in how long others have to wait, not in how much is done. Processes
have an interpreter and a lock each, and use as many cores as there are. On a build without a GIL, so do threads.

Who works outside the interpreter may let go of the lock: hashing of large buffers, compression, much of numpy. Such
threads use both cores as well as processes do. And who sleeps or waits for a socket has let go of it anyway: for such
work the number of workers counts, and their kind does not.

How many workers *can go on* is measured as the time for which they run or wait for a core, over the time that passes:
a worker that waits for the lock is not counted, and it does not matter how busy the machine is. Throughput follows it
where the cores are free, and is judged there, too (but for `hold-c`, whose length each process finds out for itself,
and only roughly): workers that wait for a core for more than {BUSY_MACHINE:.0%} of their time answer fewer requests
whatever their kind.

Processes are paid for in memory. Forked workers share main's pages until one of them writes, and CPython writes into
every object that it touches (its reference count), so shared pages become private ones. PSS counts a shared page 1/n to
each of its n users, and its sum is real memory; USS counts only what would be free if the process ended. The figure a
worker is the difference between {MANY_WORKERS} workers and {FEW_WORKERS}, divided by {MANY_WORKERS - FEW_WORKERS}. A
process also has a crash of its own, and no races with its siblings; a thread has all data at hand.

Look at the context switches, too: threads that wait for the lock are put to sleep and woken for every turn.
""",
)
