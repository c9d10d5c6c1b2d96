"""Which worker executes the next request: the queues between a dispatcher and its workers.

Pure bookkeeping for both kinds of worker: it wakes nobody and blocks nobody. With threads every
worker takes its own jobs; with processes main does so on their behalf.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Sequence

from services.metrics import slots
from services.net.connection import Connection, Job

MORE_THAN_ANY = 1 << 62
Queue = OrderedDict[Connection, Job]
"""By connection, which has one job at a time: so that one which closes can be taken out of the middle."""


class JobQueues:
    """A queue a worker, one for jobs that any of them may take, and the stack of idle workers.

    Bounded: an open connection has at most one job here and a closed one none, so there are at most
    --max-connections. `take` is for the worker itself (a thread) or main; everything else for main only.
    """

    def __init__(self, blocks: Sequence[slots.Block], common: slots.Block) -> None:
        self._blocks = blocks
        self._common = common
        self._own: list[Queue] = [OrderedDict() for _ in blocks]
        self._anyone: Queue = OrderedDict()
        self._idle: deque[int] = deque()
        self._dead: set[int] = set()
        self._lock = threading.Lock()

    def put(self, job: Job, *, last_idle_first: bool) -> int | None:
        """Queue for any worker. The idle worker that got the job and must be woken, or None."""
        with self._lock:
            if self._idle:
                worker = self._idle.pop() if last_idle_first else self._idle.popleft()
                self._own[worker][job.connection] = job
                return worker
            self._anyone[job.connection] = job
            return None

    def put_for(self, worker: int, job: Job) -> int | None:
        """Queue for this worker, or for any if it is dead. The number of one that must be woken, or None."""
        if worker in self._dead:
            return self.put(job, last_idle_first=True)
        with self._lock:
            self._own[worker][job.connection] = job
            if worker not in self._idle:
                return None
            self._idle.remove(worker)
            return worker

    def take(self, worker: int) -> Job | None:
        """The worker's next job, its own first; None: it is idle from now on, until it is woken."""
        with self._lock:
            if self._own[worker]:
                return self._own[worker].popitem(last=False)[1]
            if self._anyone:
                return self._anyone.popitem(last=False)[1]
            if worker not in self._idle:
                self._idle.append(worker)
            return None

    def least_loaded(self) -> int:
        """The worker with the fewest jobs queued or running; a dead one only if all are."""
        with self._lock:
            load = [len(own) + (worker not in self._idle) for worker, own in enumerate(self._own)]
        for worker in self._dead:
            load[worker] = MORE_THAN_ANY
        return load.index(min(load))

    def withdraw(self, connection: Connection) -> None:
        """The connection closed: nobody wants its answer, and its request need not be kept."""
        with self._lock:
            self._anyone.pop(connection, None)
            for own in self._own:
                own.pop(connection, None)

    def show_depths(self) -> bool:
        """Write the queues' lengths to the slots, for main and for every worker; whether anything is queued.

        Called by main, once a turn of its loop while there is something to show.
        """
        self._common[slots.QUEUED] = queued = len(self._anyone)
        for own, block in zip(self._own, self._blocks, strict=True):
            block[slots.QUEUED] = length = len(own)
            queued += length
        return queued > 0

    def lose(self, worker: int) -> list[Job]:
        """The worker died: its queued jobs, which nobody has begun. It gets no more until it is expected again."""
        with self._lock:
            self._dead.add(worker)
            lost = list(self._own[worker].values())
            self._own[worker].clear()
            if worker in self._idle:
                self._idle.remove(worker)
            return lost

    def expect(self, worker: int) -> None:
        """The worker is being started."""
        self._dead.discard(worker)

    def lose_all(self) -> list[Job]:
        """No worker is left, nor will be: every job that waits for one."""
        with self._lock:
            lost = list(self._anyone.values())
            self._anyone.clear()
            return lost
