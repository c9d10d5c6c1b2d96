"""Connections that are kept: what does each hold in the server?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.peers.owner import descriptors

if TYPE_CHECKING:
    from lab.fidelity.running import Running

HELD = 40


def descriptors_each(running: Running) -> float:
    """Count the descriptors that a connection takes in the server, over those that it had before."""
    before = _open(running)
    for _ in range(HELD):
        running.connect()
        running.settle()
    return (_open(running) - before) / HELD


def processes_each(running: Running) -> float:
    """Count the processes that a connection adds to the server."""
    before = len(running.pids())
    running.hold(HELD)
    return (len(running.pids()) - before) / HELD


def _open(running: Running) -> int:
    return sum(1 for pid in running.pids() for _ in descriptors(pid))
