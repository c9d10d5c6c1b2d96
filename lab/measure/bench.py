"""`lab bench`: throughput, connection rate, latency and memory of our servers beside real ones, in one run.

All servers take turns, round after round (A B C … A B C …), so that a machine that slows down slows down
all of them; the median over the rounds is the figure. The server has one core with all its processes, wrk
has another. Three parts:

- `rows`: keep-alive `GET /`, a connection a request, memory; for every server;
- `idle`: what 10,000 idle connections cost one `nodejs`, in memory and in the latency of the others;
- `watching`: what metrics cost, as server processor time a request with them and without, in pairs.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import httpx

from lab import peers
from lab.measure import environment, processes, wrk
from lab.measure.bench_tables import tables
from lab.measure.idle import IdleConnections
from lab.measure.scraper import Scraper
from lab.measure.summary import Summary, summarise
from lab.peers import model as own
from lab.peers.nginx import NAME as NGINX
from services.options import MODELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from lab.peers.process import Peer

    Progress = Callable[[str], None]

__all__ = ["BenchError", "run", "tables"]

PARTS = frozenset({"rows", "idle", "watching"})
CORES_NEEDED = 2
WARM_UP_SECONDS = 1.0
BUSY_LOAD = 0.5
"""Load average of the last minute above which the machine is not ours alone."""
IDLE_SERVER = "nodejs"
IDLE_CONNECTIONS = 10_000
IDLE_TIMEOUT_SECONDS = 3600
PAIRS = 10
"""On and off run side by side, this many times: a single ratio is noise."""
SLICE_SECONDS = 2.0
"""In its first second a load is sampled more densely than later, so slices are not shorter."""
UNITS = {"keepalive_rps": "1/s", "connections_per_second": "1/s", "p50_ms": "ms", "p99_ms": "ms", "pss_bytes": "B"}


class BenchError(Exception):
    """The benchmark cannot be run as asked; the text says why and what to do."""


class Cores(NamedTuple):
    """Who runs where."""

    server: int
    load: int


@dataclass(frozen=True, slots=True)
class Server:
    """A server that can take part. `expect` is a text that its answer to `GET /` must contain."""

    name: str
    kind: str
    expect: str
    start: Callable[[int], AbstractContextManager[Peer]]


@dataclass(frozen=True, slots=True)
class Turn:
    """What one server did in one round."""

    keepalive_rps: float
    connections_per_second: float
    p50_ms: float
    p99_ms: float
    pss_bytes: int


def run(servers: list[str] | None, seconds: float, rounds: int, parts: set[str], progress: Progress) -> dict[str, Any]:
    """Measure; the document of DESIGN.md with `missing`, `load_average`, `spreads`, `idle_connections`
    and `watching` beside.

    `servers` are names of models and peers, all that are installed by default; `seconds` is the length of
    each load, `parts` some of `PARTS`, empty for all. With fewer than two cores nothing is measured and
    `inconclusive` says so. Raises BenchError, WrkError or PeerError.
    """
    wrk.require()
    parts = parts or set(PARTS)
    if parts - PARTS:
        raise BenchError(f"no part is called {', '.join(sorted(parts - PARTS))}; there are {', '.join(sorted(PARTS))}")
    present, missing = choose(servers)
    document: dict[str, Any] = {"environment": environment.describe(), "rows": [], "missing": missing}
    cores = pick_cores()
    if cores is None:
        document["inconclusive"] = f"needs {CORES_NEEDED} cores: one for the server, one for the load"
        return document
    busy = document["load_average"] = os.getloadavg()[0]
    if busy > BUSY_LOAD:
        progress(f"other work keeps {busy:.1f} cores busy: rates will be too low, and the spread will show it")
    if "rows" in parts:
        document |= rows(present, cores, seconds, rounds, progress)
    if "idle" in parts:
        document["idle_connections"] = idle_connections(cores, seconds, rounds, IDLE_CONNECTIONS, progress)
    if "watching" in parts:
        watched = [server.name for server in present if server.kind == "model"] if servers else [IDLE_SERVER]
        document["watching"] = {name: watching(name, cores, 2 * seconds, PAIRS, progress) for name in watched}
    return document


def pick_cores() -> Cores | None:
    """Two processors that we may use; None when there is one."""
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(allowed[0], allowed[1]) if len(allowed) >= CORES_NEEDED else None


def choose(names: list[str] | None) -> tuple[list[Server], list[dict[str, str]]]:
    """The servers to measure, and those of them that are not installed, with the way to get them."""
    known = [*MODELS, *peers.HTTP_PEERS]
    wanted = names or known
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        raise BenchError(f"no server is called {', '.join(unknown)}; there are {', '.join(known)}")
    present = [model_server(name) for name in wanted if name in MODELS]
    missing = []
    for name in wanted:
        if name in MODELS:
            continue
        kind = peers.HTTP_PEERS[name]
        if kind.available():
            present.append(peer_server(kind))
        else:
            missing.append({"server": name, "how_to_get": kind.HOW_TO_GET})
    return present, missing


def peer_server(kind: peers.PeerKind) -> Server:
    """A real server with one worker."""
    return Server(kind.NAME, "peer", "hello", lambda cpu: kind.start(0, 1, {cpu}))


def model_server(name: str, *options: str) -> Server:
    """One of our models with one worker and its defaults; `nodejs` has no workers at all."""
    given = (*(() if name == "nodejs" else ("--workers", "1")), *options)
    return Server(name, "model", name, lambda cpu: own.start(name, *given, cpus={cpu}))


# Part one: throughput, connection rate, latency, memory.


def rows(servers: list[Server], cores: Cores, seconds: float, rounds: int, progress: Progress) -> dict[str, Any]:
    """All servers in turn, `rounds` times."""
    turns: dict[str, list[Turn]] = {server.name: [] for server in servers}
    for number in range(1, rounds + 1):
        for server in servers:
            progress(f"round {number} of {rounds}: {server.name}")
            turns[server.name].append(one_turn(server, cores, seconds))
    spreads = {name: spread(done) for name, done in turns.items()}
    reference = spreads.get(NGINX)
    return {"rows": [row(server, spreads[server.name], reference) for server in servers], "spreads": spreads}


def one_turn(server: Server, cores: Cores, seconds: float) -> Turn:
    """A fresh server: is its answer right, then warm-up, keep-alive, memory, and a connection a request."""
    with server.start(cores.server) as running:
        check(server, running.url)
        load(running.url, WARM_UP_SECONDS, cores)
        steady = load(running.url, seconds, cores)
        pss = processes.pss_bytes(processes.tree(running.pid))
        fresh = load(running.url, seconds, cores, keep_alive=False)
    return Turn(steady.requests_per_second, fresh.requests_per_second, steady.p50_ms, steady.p99_ms, pss)


def check(server: Server, url: str) -> None:
    """A figure counts only if the answers are right. Raises BenchError."""
    response = httpx.get(url, timeout=5.0, trust_env=False)
    said = response.text + response.headers.get("X-Model", "")
    if response.status_code != httpx.codes.OK or server.expect not in said:
        raise BenchError(f"{server.name} answered GET / with {response.status_code} {response.text[:100]!r}")


def load(url: str, seconds: float, cores: Cores, *, keep_alive: bool = True) -> wrk.WrkResult:
    """wrk on its own core. Raises BenchError when a request failed."""
    result = wrk.run(url, seconds, cpu=cores.load, keep_alive=keep_alive)
    if result.errors or not result.requests:
        raise BenchError(f"{url}: {result.errors} of {result.requests} requests failed under load")
    return result


def spread(turns: Iterable[Turn]) -> dict[str, Summary]:
    """Median and spread of each figure over the rounds."""
    taken = [asdict(turn) for turn in turns]
    return {figure: summarise([turn[figure] for turn in taken], unit) for figure, unit in UNITS.items()}


def row(server: Server, figures: dict[str, Summary], reference: dict[str, Summary] | None) -> dict[str, Any]:
    """One server's medians. `ratio_to_nginx` compares keep-alive rates; null where nginx was not measured."""
    medians = {figure: summary["median"] for figure, summary in figures.items()}
    ratio = medians["keepalive_rps"] / reference["keepalive_rps"]["median"] if reference else None
    return {"server": server.name, "kind": server.kind, **medians, "ratio_to_nginx": ratio}


# Part two: idle connections.


def idle_connections(cores: Cores, seconds: float, rounds: int, count: int, progress: Progress) -> dict[str, Any]:
    """Memory an idle connection, and p99 of a 50-connection load without and with `count` of them."""
    server = model_server(IDLE_SERVER, "--idle-timeout", str(IDLE_TIMEOUT_SECONDS), "--max-connections", str(2 * count))
    pss, without, beside = [], [], []
    for number in range(1, rounds + 1):
        progress(f"idle connections, round {number} of {rounds}: {server.name}")
        with server.start(cores.server) as running:
            check(server, running.url)
            load(running.url, WARM_UP_SECONDS, cores)
            without.append(load(running.url, seconds, cores).p99_ms)
            before = processes.pss_bytes(processes.tree(running.pid))
            with IdleConnections(running.host, running.port, count) as idle:
                pss.append((processes.pss_bytes(processes.tree(running.pid)) - before) / count)
                beside.append(load(running.url, seconds, cores).p99_ms)
                alive = idle.alive()
            if alive < count:
                raise BenchError(f"{server.name} closed {count - alive} of {count} idle connections")
    ratios = [after / before for before, after in zip(without, beside, strict=True)]
    return {
        "server": server.name,
        "connections": count,
        "pss_bytes_per_connection": summarise(pss, "B"),
        "p99_ms_without": summarise(without, "ms"),
        "p99_ms_with": summarise(beside, "ms"),
        "p99_ratio": summarise(ratios, "1"),
    }


# Part three: what watching costs.


@dataclass(frozen=True, slots=True)
class Cost:
    """Processor time a request, in µs: of main and its workers, and of the admin process."""

    serving: float
    admin: float


def watching(name: str, cores: Cores, seconds: float, pairs: int, progress: Progress) -> dict[str, Any]:
    """Server processor time a request with metrics on, scraped once a second, and with metrics off."""
    costs: dict[str, list[Cost]] = {"on": [], "off": []}
    for number in range(1, pairs + 1):
        progress(f"cost of watching, pair {number} of {pairs}: {name}")
        for metrics, cost in one_pair(name, cores, seconds).items():
            costs[metrics].append(cost)
    ratio = [on.serving / off.serving for on, off in zip(costs["on"], costs["off"], strict=True)]
    everything = [(on.serving + on.admin) / off.serving for on, off in zip(costs["on"], costs["off"], strict=True)]
    return {
        "pairs": pairs,
        "cpu_us_per_request_on": summarise([cost.serving for cost in costs["on"]], "us"),
        "cpu_us_per_request_off": summarise([cost.serving for cost in costs["off"]], "us"),
        "admin_cpu_us_per_request": summarise([cost.admin for cost in costs["on"]], "us"),
        "ratio": summarise(ratio, "1"),
        "ratio_with_admin": summarise(everything, "1"),
    }


def one_pair(name: str, cores: Cores, seconds: float) -> dict[str, Cost]:
    """Two fresh servers, "on" and "off", loaded in turn for a slice each, until each has had its `seconds`.

    A virtual machine's speed wanders within seconds by more than what is to be measured: whole runs, one
    after the other, gave ratios between 0.55 and 1.98; the sums of slices 0.94 to 1.19. So a server's cost is
    the median of its slices.
    """
    slices = max(1, round(seconds / SLICE_SECONDS))
    with Meter(name, "on", cores) as on, Meter(name, "off", cores) as off:
        for number in range(slices):
            for meter in (on, off) if number % 2 else (off, on):
                meter.load(SLICE_SECONDS)
        return {"on": on.cost(), "off": off.cost()}


class Meter:
    """One server, and what each slice of load has cost it. While it is not loaded, it costs next to nothing."""

    def __init__(self, name: str, metrics: str, cores: Cores) -> None:
        self._server = model_server(name, "--metrics", metrics)
        self._cores = cores
        self._slices: list[Cost] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Start the server, and warm it up."""
        self._running = self._stack.enter_context(self._server.start(self._cores.server))
        check(self._server, self._running.url)
        load(self._running.url, WARM_UP_SECONDS, self._cores)
        self._serving, self._admin = roles(self._running)
        return self

    def __exit__(self, *_: object) -> None:
        """End the server."""
        self._stack.close()

    def load(self, seconds: float) -> None:
        """Load it, and scrape it meanwhile if it is watched. Raises BenchError when that fails."""
        watch = Scraper(self._running.admin_url, self._cores.load) if self._running.admin_url else nullcontext()
        before = self._used()
        with watch as scraper:
            requests = load(self._running.url, seconds, self._cores).requests
        after = self._used()
        if scraper and (scraper.failures or not scraper.scrapes):
            raise BenchError(f"{self._server.name} was to be watched, but {scraper.failures} scrapes failed")
        each = partial(_microseconds_each, requests=requests)
        self._slices.append(Cost(each(after.serving - before.serving), each(after.admin - before.admin)))

    def cost(self) -> Cost:
        """Per request: the median of the slices."""
        return Cost(median(cost.serving for cost in self._slices), median(cost.admin for cost in self._slices))

    def _used(self) -> Cost:
        return Cost(processes.cpu_seconds(self._serving), processes.cpu_seconds(self._admin))


def roles(running: Peer) -> tuple[list[int], list[int]]:
    """(pids that serve, pids that watch): `/state` names main and the workers, the rest is the admin process."""
    everyone = processes.tree(running.pid)
    if not running.admin_url:
        return everyone, []
    state = httpx.get(f"{running.admin_url}/state", timeout=5.0, trust_env=False).json()
    serving = {running.pid, state["pid"], *(worker["pid"] for worker in state["workers"])}
    return [pid for pid in everyone if pid in serving], [pid for pid in everyone if pid not in serving]


def _microseconds_each(seconds: float, requests: int) -> float:
    return seconds * 1e6 / requests
