"""A client sends its request and then closes its half: does it get the response?"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.fidelity.running import Running

CLIENTS = 10


def answered_share(running: Running) -> float:
    """Measure the share of clients that get a whole response after they have closed their half."""
    answered = 0
    for _ in range(CLIENTS):
        connection = running.connect()
        running.send(connection)
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError, EOFError):
            running.read(connection)
            answered += 1
    return answered / CLIENTS
