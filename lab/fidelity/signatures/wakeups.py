"""A new connection: how many threads does it wake?"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.fidelity.running import Running

CONNECTIONS = 25


def woken(running: Running) -> float:
    """Count the threads that a new connection wakes: those that went to sleep again. The median of some connections.

    The client says nothing, so no request wakes anybody. A thread that wakes by itself now and then does not move the
    median.
    """
    return median(_woken_by_one(running) for _ in range(CONNECTIONS))


def _woken_by_one(running: Running) -> int:
    running.settle()
    before = running.switches()
    connection = running.connect()
    running.owners([connection])
    running.settle()
    after = running.switches()
    connection.close()
    return sum(after.get(thread, 0) > count for thread, count in before.items())
