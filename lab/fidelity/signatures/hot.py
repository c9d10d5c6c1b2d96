"""One connection is hot: how many threads work for it?"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.fidelity.running import Running

REQUESTS = 150
LEAST_SHARE = 0.1
"""Of the requests: a thread that wakes less often wakes for something else."""


def threads_at_work(running: Running) -> float:
    """Count the threads that wake for the requests of one connection, one after another."""
    (connection,) = running.hold(1)
    before = running.switches()
    for _ in range(REQUESTS):
        running.ask(connection)
        running.settle()
    after = running.switches()
    return sum(after.get(thread, 0) - count >= LEAST_SHARE * REQUESTS for thread, count in before.items())
