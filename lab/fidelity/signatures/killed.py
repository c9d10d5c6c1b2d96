"""A worker is killed: whose connections die, and who takes its place?"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.fidelity.running import Running

HELD = 48
REPLACED_SECONDS = 5.0
POLL_SECONDS = 0.05


def lost_share(running: Running) -> float:
    """Measure the share of connections that end when one of their workers is killed."""
    held = running.hold(HELD)
    running.kill(running.owners(held)[0])
    return 1 - len(running.silent(held)) / HELD


def lost_beyond_own(running: Running) -> float:
    """Count the connections that end with a killed worker, and that it did not own."""
    held = running.hold(HELD)
    owners = running.owners(held)
    running.kill(owners[0])
    return HELD - len(running.silent(held)) - owners.count(owners[0])


def missing_afterwards(running: Running) -> float:
    """Count the processes that are missing some seconds after a worker was killed: 0 where it was replaced."""
    before = set(running.pids())
    (victim,) = running.owners([running.connect()])
    running.kill(victim)
    deadline = time.monotonic() + REPLACED_SECONDS
    while time.monotonic() < deadline:
        now = set(running.pids())
        if victim.pid not in now and len(now) == len(before):
            return 0
        time.sleep(POLL_SECONDS)
    return len(before) - len(now - {victim.pid})
