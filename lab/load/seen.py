"""Address at which a load serves its metrics, so that Prometheus sees it."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

from lab.measure import targets
from lab.peers.process import accepts, free_port
from lab.settings import HOST, PROMETHEUS, SettingError, host_of, variable

if TYPE_CHECKING:
    from collections.abc import Iterator

LOADS_LISTEN = "LAB_LOADS_LISTEN"
"""In containers, where Prometheus asks by name: the host and the ports of which each load takes one."""


@contextlib.contextmanager
def load_address(run: str) -> Iterator[tuple[str, int] | None]:
    """Yield where a load is to serve its metrics so that Prometheus finds it; None where there is no Prometheus.

    Raises SettingError for a wrong LAB_LOADS_LISTEN.
    """
    listen = variable(LOADS_LISTEN)
    if listen:
        yield _first_free(listen)
    elif targets.TARGETS.is_dir() and accepts(PROMETHEUS.number):
        port = free_port()
        with targets.target(f"{HOST}:{port}", "loads", f"load-{run}"):
            yield HOST, port
    else:
        yield None


def unseen(model: str) -> str:
    """Return why the stack's Prometheus sees no load of this machine's, and what to do; empty where it may see one.

    A model of another host has its Prometheus on another host, too, which must be told where to ask.
    """
    if host_of(model) == HOST or variable(LOADS_LISTEN):
        return ""
    return (
        f"this load is not in Prometheus, which is on another host: set {LOADS_LISTEN}=ADDRESS:9111-9112, by which it "
        "reaches this machine, and lab_load_targets in its inventory; or make the load from the live page"
    )


def _first_free(listen: str) -> tuple[str, int] | None:
    """Return the first free port of `HOST:FIRST-LAST`; None if none is, so that the load is not seen."""
    wrong = SettingError(f"{LOADS_LISTEN}={listen!r}: give HOST:FIRST-LAST, for example 0.0.0.0:9111-9115")
    host, _, ports = listen.rpartition(":")
    first, dash, last = ports.partition("-")
    ends = [first, last] if dash else [first, first]
    if not host or not all(end.isdecimal() and 0 < int(end) < 65536 for end in ends):
        raise wrong
    for port in range(int(ends[0]), int(ends[1]) + 1):
        try:
            with socket.create_server((host, port)):
                return host, port
        except OSError:  # another load's
            continue
    return None
