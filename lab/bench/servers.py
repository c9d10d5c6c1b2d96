"""The servers that a benchmark starts, on a core of their own, and the load on them from another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import httpx

from lab import machines, peers
from lab.load import wrk
from lab.measure import processes
from lab.peers import model as own
from lab.peers.application import HOSTS, Application
from lab.peers.process import PeerError
from services.options import MODELS

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from lab.peers.process import Peer

    Progress = Callable[[str], None]

WARM_UP_SECONDS = 1.0


class Cores(NamedTuple):
    """Cores of server and generator."""

    server: int
    load: int


class BenchError(Exception):
    """The benchmark cannot be run as asked; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that can be measured. `expect` is a text that its response to `GET /` must contain."""

    name: str
    kind: str
    expect: str
    start: Callable[[int], AbstractContextManager[Peer]]
    version: str | None = None
    """None for our own, whose version is the commit."""


def peer_server(kind: peers.PeerKind) -> Server:
    """A real server with one worker."""
    return Server(kind.NAME, "peer", "hello", lambda cpu: kind.start(0, 1, {cpu}), kind.available())


def model_server(name: str, *options: str, module: str = "services") -> Server:
    """One of our models with one worker and its defaults, run by `module`; `nodejs` has no workers at all."""
    given = (*(() if name == "nodejs" else ("--workers", "1")), *options)
    return Server(name, "model", name, lambda cpu: own.start(name, *given, cpus={cpu}, module=module))


def servers_of(application: Application) -> list[Server]:
    """The models with an application of one's own, and gunicorn and uvicorn where they are installed."""
    models = [model_server(name, *application.options) for name in MODELS]
    return [*models, *(host_server(name, application) for name, kind in HOSTS.items() if kind.available())]


def host_server(name: str, application: Application) -> Server:
    """A real server with one worker and an application of one's own."""
    kind = HOSTS[name]
    start = lambda cpu: kind.start(0, 1, {cpu}, application.spec, str(application.folder))  # noqa: E731
    return Server(name, "peer", "", start, kind.available())


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


def choose_for(application: Application, names: list[str] | None, progress: Progress) -> list[Server]:
    """The servers to measure with an application of one's own: without gunicorn or uvicorn where it cannot serve it."""
    known = servers_of(application)
    unknown = sorted({*(names or ())} - {server.name for server in known})
    if unknown:
        raise BenchError(f"{', '.join(unknown)}: with --app there are {', '.join(server.name for server in known)}")
    present = []
    for server in known:
        if names and server.name not in names:
            continue
        try:
            with server.start(min(machines.cpus())) as running:
                check(server, running.url)
        except (BenchError, PeerError) as error:
            if server.kind == "model":
                raise
            progress(f"left out: {str(error).splitlines()[0]}")
        else:
            present.append(server)
    return present


def check(server: Server, url: str) -> None:
    """A figure counts only if the answers are right. Raises BenchError."""
    try:
        response = httpx.get(url, timeout=5.0, trust_env=False)
    except httpx.HTTPError as error:
        raise BenchError(f"{server.name} did not respond to GET /: {error or type(error).__name__}") from error
    said = response.text + response.headers.get("X-Model", "")
    if response.status_code != httpx.codes.OK or server.expect not in said:
        raise BenchError(f"{server.name} responded to GET / with {response.status_code} {response.text[:100]!r}")


def load(url: str, seconds: float, cores: Cores, *, keep_alive: bool = True) -> wrk.WrkResult:
    """wrk on its own core. Raises BenchError when a request failed."""
    result = wrk.run(url, seconds, cpu=cores.load, keep_alive=keep_alive)
    if result.errors or not result.requests:
        raise BenchError(f"{url}: {result.errors} of {result.requests} requests failed under load")
    return result


def roles(running: Peer) -> tuple[list[int], list[int]]:
    """(pids that serve, pids that watch): `/state` names main and the workers, the rest is the admin process."""
    everyone = processes.tree(running.pid)
    if not running.admin_url:
        return everyone, []
    state = httpx.get(f"{running.admin_url}/state", timeout=5.0, trust_env=False).json()
    serving = {running.pid, state["pid"], *(worker["pid"] for worker in state["workers"])}
    return [pid for pid in everyone if pid in serving], [pid for pid in everyone if pid not in serving]
