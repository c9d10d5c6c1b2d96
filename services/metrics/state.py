"""State of a running model, read from the slots: /state for programs, /healthz for those who restart servers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from services.metrics import kernel, processes, slots
from services.metrics.description import Description

STALLED_NS = 1_000_000_000
"""A loop that has been in one iteration for longer than this is stalled: its connections wait."""


def blocks_in_use(shared: slots.Slots) -> Iterator[tuple[str, slots.Block]]:
    """Yield main's block and those of the workers that were ever started, by the worker's name.

    There are more blocks than workers, since workers can be added to a running model.
    """
    yield "main", shared.main
    for number in range(shared.workers):
        block = shared.worker(number)
        if block[slots.STATE]:
            yield str(number), block


def in_service(shared: slots.Slots) -> dict[str, slots.Block]:
    """Return the blocks of those that serve clients: main only where it has no workers (`nodejs`).

    Not the retired: a change of options has left them without work, and their counters stay.
    """
    workers = {name: block for name, block in blocks_in_use(shared) if block[slots.STATE] != slots.RETIRED}
    if len(workers) > 1:
        del workers["main"]
    return workers


def queue_depth(block: slots.Block) -> int:
    """Return how many connections or requests wait for the worker. The slots are read one after the other."""
    return max(0, block[slots.HANDED_OFF] - block[slots.PICKED_UP]) + block[slots.QUEUED]


def busy_ns(block: slots.Block, now_ns: int) -> int:
    """Return how long the loop was not waiting, up to now: one that is stuck is busy now, not later."""
    counted, since = block[slots.BUSY_NS], block[slots.BUSY_SINCE]
    under_way = since and block[slots.STATE] in (slots.SERVING, slots.DRAINING)  # a loop that has ended leaves it set
    return counted + max(0, now_ns - since) if under_way else counted


def is_thread(block: slots.Block, description: Description) -> bool:
    """Return whether the worker is a thread of main's process."""
    return block[slots.PID] == description.main_pid


def indexed_listeners(port: int, shared: slots.Slots) -> dict[int, kernel.ListenerFigures]:
    """Return the model's listening sockets: number → figures.

    One that a worker opened has that worker's number, and so has its successor after a restart; main's
    is 0. Sockets of other servers on the same port (another address) are left out.
    """
    owners: dict[int, int] = {}
    for number in range(shared.workers):
        owners.setdefault(shared.worker(number)[slots.LISTENER_INODE], number)
    owners.setdefault(shared.main[slots.LISTENER_INODE], 0)
    owners.pop(0, None)  # no listener
    indexed: dict[int, kernel.ListenerFigures] = {}
    for listener in kernel.listeners(port):
        if listener.inode in owners:
            indexed.setdefault(owners[listener.inode], listener)
    return dict(sorted(indexed.items()))


def state(description: Description, shared: slots.Slots) -> dict[str, Any]:
    """Return the content of /state."""
    return {
        "model": description.model,
        "pid": description.main_pid,
        "options": description.current_options(),
        "listeners": [
            {"listener": number, "address": found.address, "queue": found.queue, "limit": found.limit,
             "drops": found.drops}
            for number, found in indexed_listeners(description.port, shared).items()
        ],
        "workers": [_worker(name, block, description) for name, block in in_service(shared).items()],
    }  # fmt: skip


def _worker(name: str, block: slots.Block, description: Description) -> dict[str, Any]:
    return {
        "worker": name,
        "kind": "thread" if name != "main" and is_thread(block, description) else "process",
        "pid": block[slots.PID],
        "tid": block[slots.TID],
        "state": activity(block, time.monotonic_ns()),
        "connections": slots.open_connections(block),
        "queue_depth": queue_depth(block),
        "requests": sum(block[slot] for slot in slots.REQUESTS.values()),
    }


def activity(block: slots.Block, now_ns: int) -> str:
    """Return the worker's state, and while it serves, whether it is idle, busy or stalled."""
    life = block[slots.STATE]
    if life != slots.SERVING:
        return slots.STATES[life]
    since = block[slots.BUSY_SINCE]
    if not since:
        return "idle"
    return "stalled" if now_ns - since > STALLED_NS else "busy"


def health(description: Description, shared: slots.Slots) -> tuple[bool, str]:
    """Return whether main is there and every worker serves or is coming, and a line that says what is not."""
    troubles = [
        f"worker {name} crashed" for name, block in blocks_in_use(shared) if block[slots.STATE] == slots.CRASHED
    ]
    if not processes.is_alive(description.main_pid):
        troubles.insert(0, "main is gone")
    return not troubles, "; ".join(troubles) or "ok"
