"""`lab bench`: what our servers cost beside real ones, in processor time, latency and memory, in one run.

All servers are measured one after the other, round after round (A B C … A B C …), so that a machine that slows down
slows down all of them; the median over the rounds is the figure. For a ratio of processor times the reference (real
nginx, Node) has the same load right after the server, so that both meet the same seconds of the machine. The server has
one core with all its processes, wrk has another. Three parts:

- `rows`: processor time a request and keep-alive rate under requests that all differ, the same under wrk's own request
  again and again, a connection a request, memory; for every server;
- `idle`: what 10,000 idle connections cost one `nodejs`, in memory and in the latency of its other connections;
- `watching`: what metrics cost, as server processor time a request with them and without (lab/bench/metrics_cost.py).

The document (`lab bench --json`) has these keys:

- `environment`, `wrk` (its version), `load_average` at the start, `missing` (servers that are not installed),
  `compared` (servers that all others are compared with: nginx and node, or with `--app` gunicorn and uvicorn);
- `rows`: for each server, medians over the rounds. `cpu_us_per_request`, `keepalive_rps`, `p50_ms`, `p99_ms` and
  `busy_share` (of the server's core) are of requests that all differ; those that begin with `fixed_` are of the same
  request again and again; `connections_per_second` has a connection a request; `pss_bytes` is memory after the first
  load. `admin_cpu_us_per_request` is a model's process for metrics, and in no other figure. `rounds_not_busy` counts
  rounds in which the server had less than 95 % of its core. `cpu_ratio_to_nginx`, `cpu_ratio_to_node` and the same with
  `fixed_` are {median, min, max, unit, n} of the reference's processor time divided by this server's, or null;
  `ratio_to_nginx` compares keep-alive rates. `version` is null for our own servers;
- `spreads`: by server, {median, min, max, unit, n} of each figure, and `rounds`: its value in each round; `beside`: by
  server, the processor time of each reference right after each of those loads;
- `idle_connections`: bytes a connection, of the processes (`pss_…`) and of the server's end in the kernel (`kernel_…`,
  null where only root may read it; lab/bench/kernel_memory.py), and p99 of a load with and without the connections;
- `watching`: by model;
- `inconclusive`: the reason, where nothing could be measured.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from lab import machines
from lab.bench import kernel_memory, processor_time
from lab.bench.metrics_cost import PAIRS, watching
from lab.bench.servers import WARM_UP_SECONDS, BenchError, Cores, Server, check, choose, choose_for, load, model_server
from lab.bench.tables import tables
from lab.load import wrk
from lab.load.idle_connections import IdleConnections
from lab.measure import environment, processes
from lab.measure.summary import Summary, summarise
from lab.peers.application import HOSTS
from lab.peers.nginx import NAME as NGINX
from lab.peers.node import NAME as NODE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from lab.bench.processor_time import Load
    from lab.peers.application import Application
    from lab.peers.process import Peer

    Progress = Callable[[str], None]

__all__ = ["BenchError", "run", "tables"]

PARTS = frozenset({"rows", "idle", "watching"})
CORES_NEEDED = 2
BUSY_LOAD = 0.5
"""Load average of the last minute above which the machine is not ours alone."""
IDLE_SERVER = "nodejs"
IDLE_CONNECTIONS = 10_000
IDLE_TIMEOUT_SECONDS = 3600
FIXED = "fixed_"
"""Before the figures of a load that is the same request again and again."""
REFERENCES = {"nginx": NGINX, "node": NODE}
"""Servers that all others are compared with: their name in a key, and in the table of peers."""
HOSTS_COMPARED = {name.partition("-")[0]: name for name in HOSTS}
"""The same where an application of one's own is measured: gunicorn and uvicorn."""
UNITS = {
    "keepalive_rps": "1/s",
    "connections_per_second": "1/s",
    "p50_ms": "ms",
    "p99_ms": "ms",
    "pss_bytes": "B",
    "cpu_us_per_request": "us",
    "admin_cpu_us_per_request": "us",
    "busy_share": "1",
    "fixed_rps": "1/s",
    "fixed_cpu_us_per_request": "us",
    "fixed_busy_share": "1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Figures of one server in one round; those that begin with `fixed_` are of the same request again and again."""

    keepalive_rps: float
    connections_per_second: float
    p50_ms: float
    p99_ms: float
    pss_bytes: int
    cpu_us_per_request: float
    admin_cpu_us_per_request: float
    busy_share: float
    fixed_rps: float
    fixed_cpu_us_per_request: float
    fixed_busy_share: float
    beside: dict[str, float] = field(default_factory=dict)
    """Processor time a request of each reference right after, in us; with `fixed_` before its name for those loads."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A server that the others are compared with, which runs all the time; it takes no processor time unloaded."""

    name: str
    running: Peer
    requests_per_second: float


@dataclass(frozen=True, slots=True)
class IdleRound:
    """Figures of one round with idle connections; bytes are a connection's, of the server's end."""

    pss_bytes: float
    kernel_bytes: dict[str, float] | None
    p99_ms_without: float
    p99_ms_with: float


def run(
    servers: list[str] | None, seconds: float, rounds: int, parts: set[str], progress: Progress,
    application: Application | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Measure, and return the document that is described above.

    `servers` are names of models and peers, all that are installed by default; `seconds` is the length of
    each load, `parts` some of `PARTS`, empty for all. With fewer than two cores nothing is measured and
    `inconclusive` says so. Raises BenchError, WrkError or PeerError.
    """
    if not machines.LINUX:
        raise BenchError("servers are measured on Linux, on the machine itself: run `lab bench` there")
    wrk.require()
    parts = parts or set(PARTS)
    if parts - PARTS:
        raise BenchError(f"no part is called {', '.join(sorted(parts - PARTS))}; there are {', '.join(sorted(PARTS))}")
    present, missing = choose(servers) if application is None else (choose_for(application, servers, progress), [])
    document: dict[str, Any] = {
        "environment": environment.describe(),
        "wrk": wrk.version(),
        "rows": [],
        "missing": missing,
    }
    cores = pick_cores()
    if cores is None:
        document["inconclusive"] = f"needs {CORES_NEEDED} cores: one for the server, one for the load"
        return document
    busy = document["load_average"] = os.getloadavg()[0]
    if busy > BUSY_LOAD:
        progress(f"other work keeps {busy:.1f} cores busy: rates will be too low, and the spread will show it")
    if "rows" in parts:
        compared = HOSTS_COMPARED if application else REFERENCES
        document |= rows(present, cores, seconds, rounds, progress, compared)
    if "idle" in parts:
        document["idle_connections"] = idle_connections(cores, seconds, rounds, IDLE_CONNECTIONS, progress)
    if "watching" in parts:
        watched = [server.name for server in present if server.kind == "model"] if servers else [IDLE_SERVER]
        document["watching"] = {name: watching(name, cores, 2 * seconds, PAIRS, progress) for name in watched}
    return document


def merged(stored: dict[str, Any], measured: dict[str, Any]) -> dict[str, Any]:
    """`stored` with the parts that were `measured` in place of its own.

    Rows take their environment with them; for the other parts `measured_apart` says what theirs was.
    """
    result, apart = dict(stored), dict(stored.get("measured_apart", {}))
    if measured["rows"]:
        result |= {
            key: measured[key]
            for key in (
                "environment",
                "wrk",
                "compared",
                "rows",
                "missing",
                "load_average",
                "spreads",
                "rounds",
                "beside",
            )
            if key in measured
        }
    for part in {"idle_connections", "watching"} & measured.keys():
        # Models that were not measured now keep what they had.
        result[part] = {**stored.get(part, {}), **measured[part]}
        apart.pop(part, None)
        if not measured["rows"]:
            apart[part] = measured["environment"]
    return {**result, "measured_apart": apart} if apart else result


def pick_cores() -> Cores | None:
    """Two processors that we may use; None when there is one."""
    allowed = sorted(machines.cpus())
    return Cores(allowed[0], allowed[1]) if len(allowed) >= CORES_NEEDED else None


# Part one: processor time a request, throughput, connection rate, latency, memory.


def rows(
    servers: list[Server], cores: Cores, seconds: float, rounds: int, progress: Progress,
    compared: Mapping[str, str] = REFERENCES,
) -> dict[str, Any]:  # fmt: skip
    """All servers one after the other, `rounds` times; each beside those that it is `compared` with."""
    done: dict[str, list[Measured]] = {server.name: [] for server in servers}
    with references(servers, cores, compared) as running:
        for number in range(1, rounds + 1):
            for server in servers:
                progress(f"round {number} of {rounds}: {server.name}")
                done[server.name].append(one_server(server, cores, seconds, running, progress))
    return {
        "compared": list(compared),
        "rows": [row(server, done, compared) for server in servers],
        "spreads": {name: spread(measured) for name, measured in done.items()},
        "rounds": {
            name: {figure: [getattr(one, figure) for one in measured] for figure in UNITS}
            for name, measured in done.items()
        },
        "beside": {
            name: {key: [one.beside[key] for one in measured] for key in measured[0].beside}
            for name, measured in done.items()
        },
    }


@contextmanager
def references(servers: list[Server], cores: Cores, compared: Mapping[str, str]) -> Iterator[list[Reference]]:
    """Start those of the servers that the others are compared with, and warm them up."""
    with ExitStack() as stack:
        found = []
        for server in servers:
            if server.name in compared.values():
                running = stack.enter_context(server.start(cores.server))
                rate = load(running.url, WARM_UP_SECONDS, cores).requests_per_second
                found.append(Reference(server.name, running, rate))
        yield found


def one_server(
    server: Server, cores: Cores, seconds: float, references: list[Reference], progress: Progress
) -> Measured:
    """A fresh server: check its response, warm it up, then each load in turn; memory after the first."""

    def distinct(running: Peer, rate: float) -> Load:
        return processor_time.distinct(running, seconds, cores, rate, progress)

    def repeated(running: Peer) -> Load:
        return processor_time.repeated(running, seconds, cores, progress)

    others = [reference for reference in references if reference.name != server.name]
    with server.start(cores.server) as running:
        check(server, running.url)
        rate = load(running.url, WARM_UP_SECONDS, cores).requests_per_second
        steady = distinct(running, rate)
        beside = {one.name: distinct(one.running, one.requests_per_second).cpu_us_per_request for one in others}
        pss = processes.pss_bytes(processes.tree(running.pid))
        fixed = repeated(running)
        beside |= {f"{FIXED}{one.name}": repeated(one.running).cpu_us_per_request for one in others}
        fresh = load(running.url, seconds, cores, keep_alive=False)
    return Measured(
        keepalive_rps=steady.requests_per_second,
        connections_per_second=fresh.requests_per_second,
        p50_ms=steady.p50_ms,
        p99_ms=steady.p99_ms,
        pss_bytes=pss,
        cpu_us_per_request=steady.cpu_us_per_request,
        admin_cpu_us_per_request=steady.admin_cpu_us_per_request,
        busy_share=steady.busy_share,
        fixed_rps=fixed.requests_per_second,
        fixed_cpu_us_per_request=fixed.cpu_us_per_request,
        fixed_busy_share=fixed.busy_share,
        beside=beside,
    )


def spread(measured: Iterable[Measured]) -> dict[str, Summary]:
    """Median and spread of each figure over the rounds."""
    taken = [asdict(one) for one in measured]
    return {figure: summarise([one[figure] for one in taken], unit) for figure, unit in UNITS.items()}


def row(server: Server, done: dict[str, list[Measured]], compared: Mapping[str, str]) -> dict[str, Any]:
    """One server's medians, and its ratios to those that it is compared with; null where that was not measured."""
    own = done[server.name]
    medians = {figure: summary["median"] for figure, summary in spread(own).items()}
    nginx = done.get(NGINX)
    ratio = medians["keepalive_rps"] / spread(nginx)["keepalive_rps"]["median"] if nginx else None
    return {
        "server": server.name,
        "kind": server.kind,
        "version": server.version,
        **medians,
        "rounds_not_busy": sum(one.busy_share < processor_time.BUSY for one in own),
        "fixed_rounds_not_busy": sum(one.fixed_busy_share < processor_time.BUSY for one in own),
        "ratio_to_nginx": ratio,
        **{
            f"{load}cpu_ratio_to_{short}": cpu_ratio(server.name, name, own, load) if name in done else None
            for load in ("", FIXED)
            for short, name in compared.items()
        },
    }


def cpu_ratio(name: str, reference: str, own: list[Measured], load: str) -> Summary:
    """Processor time of the reference right after this server, divided by this server's: above 1 where that is less."""
    if name == reference:
        return summarise([1.0 for _ in own], "1")
    figure = f"{load}cpu_us_per_request"
    return summarise([one.beside[f"{load}{reference}"] / getattr(one, figure) for one in own], "1")


# Part two: idle connections.


def idle_connections(cores: Cores, seconds: float, rounds: int, count: int, progress: Progress) -> dict[str, Any]:
    """Memory an idle connection, and p99 of a 50-connection load without and with `count` of them."""
    server = model_server(IDLE_SERVER, "--idle-timeout", str(IDLE_TIMEOUT_SECONDS), "--max-connections", str(2 * count))
    done = []
    for number in range(1, rounds + 1):
        progress(f"idle connections, round {number} of {rounds}: {server.name}")
        done.append(one_idle_round(server, cores, seconds, count))
    return {
        "server": server.name,
        "connections": count,
        "pss_bytes_per_connection": summarise([one.pss_bytes for one in done], "B"),
        **kernel_summary([one.kernel_bytes for one in done]),
        "p99_ms_without": summarise([one.p99_ms_without for one in done], "ms"),
        "p99_ms_with": summarise([one.p99_ms_with for one in done], "ms"),
        "p99_ratio": summarise([one.p99_ms_with / one.p99_ms_without for one in done], "1"),
    }


def one_idle_round(server: Server, cores: Cores, seconds: float, count: int) -> IdleRound:
    """A fresh server, its load alone, then `count` connections, and its load beside them. Raises BenchError."""
    with server.start(cores.server) as running:
        check(server, running.url)
        load(running.url, WARM_UP_SECONDS, cores)
        without = load(running.url, seconds, cores).p99_ms
        pss, kernel = processes.pss_bytes(processes.tree(running.pid)), kernel_memory.read()
        with IdleConnections(running.host, running.port, count) as idle:
            more_pss, more_kernel = processes.pss_bytes(processes.tree(running.pid)), kernel_memory.read()
            beside = load(running.url, seconds, cores).p99_ms
            alive = idle.alive()
        if alive < count:
            raise BenchError(f"{server.name} closed {count - alive} of {count} idle connections")
    taken = kernel_memory.server_bytes(kernel, more_kernel, count) if kernel and more_kernel else None
    return IdleRound((more_pss - pss) / count, taken, without, beside)


def kernel_summary(rounds: list[dict[str, float] | None]) -> dict[str, Any]:
    """Kernel memory a connection, in all and by kind of object; null where it could not be read."""
    read = [taken for taken in rounds if taken]
    if not read:
        return {"kernel_bytes_per_connection": None, "kernel_bytes_by_object": None}
    return {
        "kernel_bytes_per_connection": summarise([sum(taken.values()) for taken in read], "B"),
        "kernel_bytes_by_object": {name: median(taken[name] for taken in read) for name in sorted(read[0])},
    }
