"""The real systems as sides of rows: each with the options that rows need."""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import TYPE_CHECKING

from lab.fidelity.speech import MEMCACHE, POSTGRES, REDIS, http
from lab.fidelity.system import Reload, System
from lab.peers import (
    apache,
    granian,
    gunicorn_asgi,
    gunicorn_gthread,
    gunicorn_sync,
    memcached,
    nginx,
    node_cluster,
    postgres,
    redis,
    uvicorn,
)
from lab.peers.owner import DESCRIPTOR, EPOLL
from lab.peers.process import START_SECONDS, PeerError
from lab.peers.routes import LONG_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.peers import PeerKind
    from lab.peers.process import Peer

KINDS: dict[str, PeerKind] = {
    "nginx": nginx,
    "memcached": memcached,
    "node": node_cluster,
    "gunicorn": gunicorn_sync,
    "uvicorn": uvicorn,
    "granian": granian,
    "redis": redis,
    "postgres": postgres,
    "apache": apache,
}
"""System → the file that starts it, and says which version is installed and how to get one."""
WSGI, ASGI = "lab.peers.routes_wsgi:app", "lab.peers.routes_asgi:app"
POLL_SECONDS = 0.05
ROUND = 48
"""Connections after which three workers of nginx are where they were: each accepts 16 and goes to the back."""


def signalled(number: signal.Signals) -> Reload:
    """Return the reload of a server that does so at a signal to its main process, and does not say when it is over."""

    def reload(peer: Peer) -> Callable[[], None]:
        os.kill(peer.pid, number)
        return lambda: None

    return reload


def real_nginx(workers: int, *, backlog: int = 0, reuseport: bool = False, mutex: bool = False) -> System:
    """Return nginx. `backlog` 0 is its own, 511."""
    listen = " ".join([*(["reuseport"] if reuseport else []), *([f"backlog={backlog}"] if backlog else [])])
    events = "accept_mutex on; accept_mutex_delay 500ms;" if mutex else ""
    more = [word for word, given in (("reuseport", reuseport), ("accept_mutex on", mutex)) if given]
    server = "location /big { default_type application/octet-stream; alias big; }"
    return System(
        "nginx",
        ", ".join([f"nginx, {workers} workers" if workers > 1 else "nginx, 1 worker", *more]),
        lambda: nginx.start(workers=workers, listen=listen, events=events, server=server),
        graceful=signal.SIGQUIT,
        reload=signalled(signal.SIGHUP),
        prepare=_make_big,
        warm_up=ROUND if workers > 1 else 0,
    )


def _make_big(peer: Peer) -> None:
    with (peer.folder / "big").open("wb") as file:
        file.truncate(LONG_BYTES)


def real_memcached(threads: int, *, backlog: int = 0) -> System:
    """Return memcached. `backlog` 0 is its own, 1024."""
    options = ["-b", str(backlog)] if backlog else []
    return System(
        "memcached", f"memcached -t {threads}", lambda: memcached.start(workers=threads, options=options), MEMCACHE
    )


def real_node(workers: int = 0, scheduling: str = "round-robin", backlog: int = 511) -> System:
    """Return Node: one loop, or a cluster."""
    return System(
        "node",
        f"node, cluster of {workers}, {scheduling}" if workers else "node, http",
        lambda: node_cluster.start(workers=workers, scheduling=scheduling, backlog=backlog),
    )


def real_gunicorn(kind: str, workers: int, threads: int = 4, backlog: int = 2048) -> System:
    """Return gunicorn with workers of one kind: sync, gthread or asgi."""
    words = ["--backlog", str(backlog)]
    starts = {
        "sync": lambda: gunicorn_sync.start(workers=workers, app=WSGI, options=words),
        "gthread": lambda: gunicorn_gthread.start(
            workers=workers, app=WSGI, options=[*words, "--threads", str(threads)]
        ),
        "asgi": lambda: gunicorn_asgi.start(workers=workers, app=ASGI, options=words),
    }
    label = f"gunicorn {kind}, {workers} worker{'s' * (workers > 1)}" + f" of {threads} threads" * (kind == "gthread")
    return System(
        "gunicorn",
        label,
        starts[kind],
        owned_by=DESCRIPTOR if kind == "sync" else EPOLL,
        reload=signalled(signal.SIGHUP),
    )


def real_uvicorn(workers: int, backlog: int = 2048) -> System:
    """Return uvicorn."""
    return System(
        "uvicorn",
        f"uvicorn, {workers} worker{'s' * (workers > 1)}",
        lambda: uvicorn.start(workers=workers, app=ASGI, options=["--backlog", str(backlog)]),
        reload=signalled(signal.SIGHUP),
    )


def real_granian(workers: int, backlog: int = 1024, *, respawn: bool = False) -> System:
    """Return granian."""
    words = ["--backlog", str(backlog), *(["--respawn-failed-workers"] if respawn else [])]
    return System(
        "granian",
        f"granian, {workers} worker{'s' * (workers > 1)}" + ", respawning" * respawn,
        lambda: granian.start(workers=workers, app=ASGI, options=words),
        reload=signalled(signal.SIGHUP),
    )


def real_redis(backlog: int = 511) -> System:
    """Return Redis."""
    return System(
        "redis", "redis", lambda: redis.start(options=["--tcp-backlog", str(backlog)]), REDIS, prepare=_set_long
    )


def _set_long(peer: Peer) -> None:
    with socket.create_connection((peer.host, peer.port), START_SECONDS) as connection:
        connection.sendall(b"SETRANGE long %d x\r\n" % (LONG_BYTES - 1))
        connection.recv(100)


def real_postgres(connections: int = 200) -> System:
    """Return PostgreSQL. Its end is a signal of its own, after which it leaves no shared memory."""
    options = ["-c", f"max_connections={connections}", "-c", "superuser_reserved_connections=0"]
    return System(
        "postgres",
        "postgres",
        lambda: postgres.start(options=options),
        POSTGRES,
        prepare=_wait_until_recovered,
        last_signal=signal.SIGQUIT,
    )


def _wait_until_recovered(peer: Peer) -> None:
    """It accepts connections before it serves any. Raises PeerError."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with socket.create_connection((peer.host, peer.port), START_SECONDS) as connection:
            connection.sendall(POSTGRES.greeting)
            if connection.recv(1) == b"R":  # authentication: welcome
                return
        time.sleep(POLL_SECONDS)
    raise PeerError(f"postgres serves nobody within {START_SECONDS:.0f} s")


def real_apache(mpm: str, workers: int, backlog: int = 511) -> System:
    """Return Apache with one of its ways to have workers."""
    unit = "processes" if mpm == "prefork" else "threads"
    return System(
        "apache",
        f"apache {mpm}, {workers} {unit}",
        lambda: apache.start(workers=workers, mpm=mpm, backlog=backlog),
        http("/big", ""),
        owned_by=DESCRIPTOR,
        graceful=signal.SIGWINCH,
        reload=signalled(signal.SIGUSR1),
    )
