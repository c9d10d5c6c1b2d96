"""The accept queue is full: how many are in it, and what do the others see?"""

from __future__ import annotations

import contextlib
import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

    from lab.fidelity.running import Running

BACKLOG = 8
"""Of every system in these rows; its own default would take hundreds of clients to fill."""
CLIENTS = 20
QUIET_MILLISECONDS = 300
"""A SYN that was dropped is sent again after 1 s: whoever is not connected by then was dropped."""


def queued(running: Running) -> float:
    """Count the clients that are connected while nobody accepts."""
    with running.all_stopped():
        connections = _connect_in_turn(running)
        return sum(_is_connected(connection) for connection in connections)


def refused(running: Running) -> float:
    """Count the clients that are told that there is no room, while nobody accepts; the rest hears nothing."""
    with running.all_stopped():
        connections = _connect_in_turn(running)
        poller = _polling(connections, select.POLLIN)
        return sum(bool(events & (select.POLLERR | select.POLLIN)) for _, events in poller.poll(QUIET_MILLISECONDS))


def served_in_the_end(running: Running) -> float:
    """Measure the share of these clients that get a response once the server goes on."""
    with running.all_stopped():
        connections = _connect_in_turn(running)
    served = 0
    for connection in connections:
        connection.settimeout(10)
        running.wait_until_connected([connection])
        with contextlib.suppress(OSError, EOFError):
            running.ask(connection)
            served += 1
        connection.close()
    return served / len(connections)


def _connect_in_turn(running: Running) -> list[socket.socket]:
    """Return clients whose SYNs came one after another: on loopback a handshake is over when the call returns."""
    return [connection for _ in range(CLIENTS) for connection in running.connect_at_once(1)]


def _is_connected(connection: socket.socket) -> bool:
    return bool(_polling([connection], select.POLLOUT).poll(0))


def _polling(connections: list[socket.socket], events: int) -> select.poll:
    poller = select.poll()
    for connection in connections:
        poller.register(connection, events)
    return poller
