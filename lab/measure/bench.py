"""`lab bench`: throughput, connection rate, latency and memory of our servers beside real ones, in one run.

All servers take turns, round after round (A B C … A B C …), so that a machine that slows down slows down
all of them; the median over the rounds is the figure. The server has one core with all its processes, wrk
has another. Three parts:

- `rows`: keep-alive `GET /`, a connection a request, memory; for every server;
- `idle`: what 10,000 idle connections cost one `nodejs`, in memory and in the latency of the others;
- `watching`: what metrics cost, as server processor time a request with them and without (lab/measure/watching.py).
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lab import peers
from lab.measure import environment, processes, wrk
from lab.measure.bench_servers import (
    WARM_UP_SECONDS,
    BenchError,
    Cores,
    Server,
    check,
    load,
    model_server,
    peer_server,
)
from lab.measure.bench_tables import tables
from lab.measure.idle import IdleConnections
from lab.measure.summary import Summary, summarise
from lab.measure.watching import PAIRS, watching
from lab.peers.nginx import NAME as NGINX
from services.options import MODELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Progress = Callable[[str], None]

__all__ = ["BenchError", "run", "tables"]

PARTS = frozenset({"rows", "idle", "watching"})
CORES_NEEDED = 2
BUSY_LOAD = 0.5
"""Load average of the last minute above which the machine is not ours alone."""
IDLE_SERVER = "nodejs"
IDLE_CONNECTIONS = 10_000
IDLE_TIMEOUT_SECONDS = 3600
UNITS = {"keepalive_rps": "1/s", "connections_per_second": "1/s", "p50_ms": "ms", "p99_ms": "ms", "pss_bytes": "B"}


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


def merged(stored: dict[str, Any], measured: dict[str, Any]) -> dict[str, Any]:
    """`stored` with the parts that were `measured` in place of its own.

    Rows take their environment with them; for the other parts `measured_apart` says what theirs was.
    """
    result, apart = dict(stored), dict(stored.get("measured_apart", {}))
    if measured["rows"]:
        result |= {key: measured[key] for key in ("environment", "rows", "missing", "load_average", "spreads")}
    for part in {"idle_connections", "watching"} & measured.keys():
        # Models that were not measured now keep what they had.
        result[part] = {**stored.get(part, {}), **measured[part]}
        apart.pop(part, None)
        if not measured["rows"]:
            apart[part] = measured["environment"]
    return {**result, "measured_apart": apart} if apart else result


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
