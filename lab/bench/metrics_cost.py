"""Cost of watching: a model's processor time a request, divided by the same of a server that counts nothing.

Two fresh servers share a core, and a wrk for each shares another. One server is watched, and scraped once a second; one
counts nothing of its requests and has no admin process (lab/bench/without_counters.py). The wrks take turns of 50 ms:
one is stopped (SIGSTOP) while the other loads. A virtual machine's speed wanders by a fifth within seconds: pairs of
whole loads, one after the other, gave ratios from 0.55 to 1.98, slices of 2 s 0.78 to 1.23. Within 50 ms it hardly
changes, and all of a pair's hundred turns count.

A turn costs a server some cold caches, so that turns of different lengths would favour the one with the longer ones
(tried with 4 to 1: 6 %). Of equal ones, each server has half of its time under load. `--sample-rate auto` goes by the
clock, and so takes twice as many of the requests as on a server that is loaded all the time: the ratio is too high
rather than too low.
"""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, Any

from lab.bench.scraper import Scraper
from lab.bench.servers import BenchError, Cores, check, model_server, roles
from lab.load import wrk
from lab.measure import processes
from lab.measure.summary import summarise

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

PAIRS = 10
"""A single ratio is noise."""
TURN_SECONDS = 0.05
WARM_UP_SECONDS = 3.0
"""Right before the measured turns: a server that has rested times every request of its first second."""
PATIENCE_SECONDS = 60
OFF_IS = "without counters"
"""In a document of before 2026-12 it was `--metrics off`, which left counters on."""
UNWATCHED = "lab.bench.without_counters"
SHARE = 0.5
"""Of the time, that each server is loaded."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Processor time a request, in µs: of main and its workers, and of the admin process."""

    serving: float
    admin: float


def watching(name: str, cores: Cores, seconds: float, pairs: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """Server processor time a request, watched ("on") and unwatched ("off"). Each pair takes `seconds`."""
    costs: dict[str, list[Cost]] = {"on": [], "off": []}
    for number in range(1, pairs + 1):
        progress(f"cost of watching, pair {number} of {pairs}: {name}")
        for metrics, cost in one_pair(name, cores, seconds).items():
            costs[metrics].append(cost)
    ratio = [on.serving / off.serving for on, off in zip(costs["on"], costs["off"], strict=True)]
    everything = [(on.serving + on.admin) / off.serving for on, off in zip(costs["on"], costs["off"], strict=True)]
    return {
        "pairs": pairs,
        "off_is": OFF_IS,
        "cpu_us_per_request_on": summarise([cost.serving for cost in costs["on"]], "us"),
        "cpu_us_per_request_off": summarise([cost.serving for cost in costs["off"]], "us"),
        "admin_cpu_us_per_request": summarise([cost.admin for cost in costs["on"]], "us"),
        "ratio": summarise(ratio, "1"),
        "ratio_with_admin": summarise(everything, "1"),
    }


def one_pair(name: str, cores: Cores, seconds: float) -> dict[str, Cost]:
    """Two fresh servers, "on" and "off", loaded in turn. Raises BenchError when a request or a scrape fails."""
    with ExitStack() as stack:
        meters = {metrics: Meter(name, metrics, cores, stack) for metrics in ("on", "off")}
        watched = meters["on"].running
        scraper = stack.enter_context(Scraper(watched.admin_url, cores.load))
        urls = [meter.running.url for meter in meters.values()]
        take_turns(urls, WARM_UP_SECONDS, cores)
        before = {metrics: meter.used() for metrics, meter in meters.items()}
        results = take_turns(urls, seconds, cores)
        costs = {
            metrics: meter.cost(before[metrics], result.requests)
            for (metrics, meter), result in zip(meters.items(), results, strict=True)
        }
    if scraper.failures or not scraper.scrapes:
        raise BenchError(f"{name} was to be watched, but {scraper.failures} scrapes failed")
    return costs


def take_turns(urls: list[str], seconds: float, cores: Cores) -> list[wrk.WrkResult]:
    """A wrk for each of `urls`, for `seconds`, of which one runs and the others are stopped, in turns."""
    with ExitStack() as stack:
        # That a wrk is stopped makes no request late.
        patient = partial(wrk.started, seconds=seconds, cpu=cores.load, timeout_seconds=PATIENCE_SECONDS)
        loads = [stack.enter_context(patient(url)) for url in urls]
        for process in loads:
            process.send_signal(signal.SIGSTOP)
        turns = cycle(loads)
        while all(process.poll() is None for process in loads):
            _one_turn(next(turns))
        for process in loads:
            process.send_signal(signal.SIGCONT)  # its time is over, too
        results = [wrk.finish(process, url, seconds) for process, url in zip(loads, urls, strict=True)]
    for url, result in zip(urls, results, strict=True):
        if result.errors or not result.requests:
            raise BenchError(f"{url}: {result.errors} of {result.requests} requests failed under load")
    return results


def _one_turn(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGCONT)
    time.sleep(TURN_SECONDS)
    process.send_signal(signal.SIGSTOP)


class Meter:
    """One server, and the processor time that it has used."""

    def __init__(self, name: str, metrics: str, cores: Cores, stack: ExitStack) -> None:
        """Start the server, which `stack` ends."""
        server = model_server(name, "--metrics", metrics, module="services" if metrics == "on" else UNWATCHED)
        self.running = stack.enter_context(server.start(cores.server))
        check(server, self.running.url)
        self._serving, self._admin = roles(self.running)

    def used(self) -> Cost:
        """Processor time so far, in µs."""
        return Cost(processes.cpu_seconds(self._serving) * 1e6, processes.cpu_seconds(self._admin) * 1e6)

    def cost(self, before: Cost, requests: int) -> Cost:
        """Per request of those since `before`. Scrapes come by the clock, however few requests there are meanwhile."""
        after = self.used()
        return Cost((after.serving - before.serving) / requests, SHARE * (after.admin - before.admin) / requests)
