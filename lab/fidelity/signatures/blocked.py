"""One worker stands still: who waits for it?"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.fidelity.running import Running

HELD, NEW = 48, 120
MOST_OCCUPIED = 8


def established_waiting(running: Running) -> float:
    """Measure the share of established connections that get no response while one worker stands still."""
    held = running.hold(HELD)
    with running.stopped(running.owners(held)[0]):
        for connection in held:
            running.send(connection)
        return running.unserved(held) / HELD


def new_waiting(running: Running) -> float:
    """Measure the share of new connections that get no response while one worker stands still."""
    (first,) = running.hold(1)
    with running.stopped(running.owners([first])[0]):
        connections = []
        for _ in range(NEW):
            connections.append(running.connect())
            running.send(connections[-1])
            running.wait_a_moment_for(connections[-1])
        return running.unserved(connections) / NEW


def occupied_by_requests(running: Running) -> float:
    """Count the requests that block, each on a connection of its own, until another client gets no response."""
    return _occupied(running, running.system.speech.blocking_request)


def occupied_by_idle_connections(running: Running) -> float:
    """Count the connections that are kept open after a response, until another client gets none."""
    return _occupied(running, b"")


def occupied_by_silent_connections(running: Running) -> float:
    """Count the connections on which nothing is ever sent, until another client gets no response."""
    for occupied in range(MOST_OCCUPIED):
        with running.connect() as probe:
            running.send(probe)
            if running.unserved([probe]):
                return occupied
        running.connect()
        running.settle()
    return MOST_OCCUPIED


def _occupied(running: Running, request: bytes) -> float:
    """Count the connections that are served one small request each, and then occupy whoever owns them."""
    for occupied in range(MOST_OCCUPIED):
        try:
            connection = running.connect()
            running.send(connection)
            if running.unserved([connection]):
                return occupied
            running.read(connection)
        except (OSError, EOFError):
            return occupied
        connection.sendall(request)
        running.wait_until_read(connection)
    return MOST_OCCUPIED
