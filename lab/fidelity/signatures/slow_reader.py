"""A client asks for much and reads nothing: who else is served?"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.fidelity.running import Running

OTHERS = 20


def others_served(running: Running) -> float:
    """Measure the share of other clients that get a response meanwhile."""
    slow = running.connect()
    slow.sendall(running.system.speech.long_request)
    slow.recv(1)
    running.settle()
    others = running.connect_at_once(OTHERS)
    running.wait_until_connected(others)
    for connection in others:
        running.send(connection)
    return 1 - running.unserved(others) / OTHERS
