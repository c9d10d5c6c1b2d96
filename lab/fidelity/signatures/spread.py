"""Spread of connections over workers: shares, runs and periods of the order in which they are accepted."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.fidelity.running import Running
    from lab.peers.owner import Owner

SEQUENTIAL, HELD, AT_ONCE = 96, 96, 96


def order(running: Running, number: int) -> list[Owner]:
    """Return the owners of connections made one after another to workers that wait, each asked once and closed."""
    found = []
    for _ in range(number):
        connection = running.connect()
        running.ask(connection)
        running.settle()
        found += running.owners([connection])
        connection.close()
        running.settle()
    return found


def busiest(owners: Sequence[Owner]) -> float:
    """Return the share of the one that has most."""
    return max(Counter(owners).values()) / len(owners)


def sequential_share(running: Running) -> float:
    """Measure the busiest worker's share of connections that come one after another."""
    return busiest(order(running, SEQUENTIAL))


def idle_share(running: Running) -> float:
    """Measure the busiest worker's share of connections that are opened and say nothing."""
    held = []
    for _ in range(HELD):
        held.append(running.connect())
        running.owners(held[-1:])
        running.settle()
    return busiest(running.owners(held))


def concurrent_share(running: Running) -> float:
    """Measure the busiest worker's share of connections that come at once."""
    return busiest(running.owners(running.connect_at_once(AT_ONCE)))


def longest_run(running: Running) -> float:
    """Count the most connections in a row that one worker gets, of those that come one after another."""
    return max(len(list(run)) for _, run in groupby(order(running, SEQUENTIAL)))


def changes(running: Running) -> float:
    """Count how often the next connection goes to another worker, of those that come one after another."""
    return len(list(groupby(order(running, SEQUENTIAL)))) - 1


def owners_of_six(running: Running) -> float:
    """Count the workers that own six connections."""
    return len(set(running.owners(running.hold(6))))
