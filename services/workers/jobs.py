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
        self._load = [0] * len(blocks)
        self._lock = threading.Lock()

    def put(self, job: Job, *, last_idle_first: bool) -> int | None:
        """Queue for any worker. The idle worker that got the job and must be woken, or None."""
        with self._lock:
            if self._idle:
                worker = self._idle.pop() if last_idle_first else self._idle.popleft()
                self._give(worker, job)
                return worker
            self._anyone.append(job)
            self._common[slots.HANDED_OFF] += 1
            return None

    def put_for(self, worker: int, job: Job) -> int | None:
        """Queue for this worker. Its number if it is idle and must be woken, or None."""
        with self._lock:
            self._give(worker, job)
            if worker not in self._idle:
                return None
            self._idle.remove(worker)
            return worker

    def take(self, worker: int) -> Job | None:
        """The worker's next job, its own first; None: it is idle from now on, until it is woken."""
        with self._lock:
            if self._own[worker]:
                self._blocks[worker][slots.PICKED_UP] += 1
                return self._own[worker].popleft()
            if self._anyone:
                self._common[slots.PICKED_UP] += 1
                self._load[worker] += 1
                return self._anyone.popleft()
            if worker not in self._idle:
                self._idle.append(worker)
            return None

    def done(self, worker: int) -> None:
        """The worker has finished a job."""
        with self._lock:
            self._load[worker] -= 1

    def least_loaded(self) -> int:
        """The worker with the fewest jobs queued or running."""
        return self._load.index(min(self._load))

    def lose(self, worker: int) -> list[Job]:
        """The worker died: its queued jobs, which nobody has begun."""
        with self._lock:
            lost = list(self._own[worker])
            self._own[worker].clear()
            self._blocks[worker][slots.PICKED_UP] += len(lost)
            self._load[worker] = 0
            if worker in self._idle:
                self._idle.remove(worker)
            return lost

    def _give(self, worker: int, job: Job) -> None:
        self._own[worker].append(job)
        self._load[worker] += 1
        self._blocks[worker][slots.HANDED_OFF] += 1
