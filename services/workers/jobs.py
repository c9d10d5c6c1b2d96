"""Which worker executes the next request: the queues between a dispatcher and its workers.

Pure bookkeeping for both kinds of worker: it wakes nobody and blocks nobody. With threads every
worker takes its own jobs; with processes main does so on their behalf.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from services.metrics import slots
from services.net.connection import Job


class JobQueues:
    """A queue a worker, one for jobs that any of them may take, and the stack of idle workers.

    Bounded: a connection has at most one job here, so there are at most --max-connections.
    """

    def __init__(self, blocks: Sequence[slots.Block], common: slots.Block) -> None:
        self._blocks = blocks
        self._common = common
        self._own: list[deque[Job]] = [deque() for _ in blocks]
        self._anyone: deque[Job] = deque()
        self._idle: deque[int] = deque()
        self._lock = threading.Lock()

    def put(self, job: Job, *, last_idle_first: bool) -> int | None:
        """Queue for any worker. The idle worker that got the job and must be woken, or None."""
        with self._lock:
            if self._idle:
                worker = self._idle.pop() if last_idle_first else self._idle.popleft()
                self._own[worker].append(job)
                return worker
            self._anyone.append(job)
            return None

    def put_for(self, worker: int, job: Job) -> int | None:
        """Queue for this worker. Its number if it is idle and must be woken, or None."""
        with self._lock:
            self._own[worker].append(job)
            if worker not in self._idle:
                return None
            self._idle.remove(worker)
            return worker

    def take(self, worker: int) -> Job | None:
        """The worker's next job, its own first; None: it is idle from now on, until it is woken."""
        with self._lock:
            if self._own[worker]:
                return self._own[worker].popleft()
            if self._anyone:
                return self._anyone.popleft()
            if worker not in self._idle:
                self._idle.append(worker)
            return None

    def least_loaded(self) -> int:
        """The worker with the fewest jobs queued or running."""
        with self._lock:
            load = [len(own) + (worker not in self._idle) for worker, own in enumerate(self._own)]
        return load.index(min(load))

    def show_depths(self) -> None:
        """Write the queues' lengths to the slots, for main and for every worker. Called once a turn of main's loop."""
        self._common[slots.HANDED_OFF] = len(self._anyone)
        for own, block in zip(self._own, self._blocks, strict=True):
            block[slots.HANDED_OFF] = len(own)

    def lose(self, worker: int) -> list[Job]:
        """The worker died: its queued jobs, which nobody has begun."""
        with self._lock:
            lost = list(self._own[worker])
            self._own[worker].clear()
            if worker in self._idle:
                self._idle.remove(worker)
            return lost
