"""Queues of requests between a dispatcher and its workers: they decide which worker executes the next one.

Pure bookkeeping for both kinds of worker: it wakes nobody and blocks nobody. With threads every
worker takes its own jobs; with processes main does so on their behalf.

A job costs a queue an `append` and a `popleft`. Those of a deque are atomic, and so is its `remove` of what compares
by identity, with an interpreter lock and without; so there is a lock only around what a worker does when it finds
nothing, around what main does before it waits, and around a look at everybody's load. (A lock a job, and a queue
ordered by connection, cost a fifth of the throughput.)
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence

from services.metrics import slots
from services.net.job import Job

MORE_THAN_ANY = 1 << 62


class JobQueues:
    """A queue a worker, one for jobs that any of them may take, and the stack of idle workers.

    Bounded: an open connection has at most one job here and a closed one none, so there are at most
    --max-connections. `take` is for the worker itself (a thread) or main; everything else for main only.
    """

    def __init__(self, blocks: Sequence[slots.Block], common: slots.Block) -> None:
        self._blocks = blocks
        self._common = common
        self._own: list[deque[Job]] = [deque() for _ in blocks]
        self._anyone: deque[Job] = deque()
        self._idle: deque[int] = deque()
        self._on_their_way: set[int] = set()
        """Woken for a job of anyone's, and not come for it yet: that job needs nobody else."""
        self._dead: set[int] = set()
        self._lock = threading.Lock()
        self.last_idle_first = True
        """Wake, of several idle workers, the one that has been idle for the shortest time."""
        self.put: Callable[[Job], None] = self._anyone.append
        """Queue for any worker: the deque's own method, since this is on the way of every request."""

    def put_for(self, worker: int, job: Job) -> None:
        """Queue for this worker, or for any if it is dead."""
        if worker in self._dead:
            self.put(job)
        else:
            self._own[worker].append(job)

    def take(self, worker: int) -> Job | None:
        """Return the worker's next job, its own first; None: it is idle from now on, until it is woken."""
        if worker not in self._on_their_way:
            try:
                return (self._own[worker] or self._anyone).popleft()
            except IndexError:
                pass
        return self.take_or_idle(worker)

    def take_or_idle(self, worker: int) -> Job | None:
        """The same for a worker that looks without having been woken: with a job, it is no idle one any more."""
        # Locked: a job that is put just now would find nobody idle, and wake nobody; and one that its worker has
        # come for, but not taken yet, would wake a second.
        with self._lock:
            promised = worker in self._on_their_way
            self._on_their_way.discard(worker)
            # Woken for a job of anyone's, it takes one of those, even if it has been given one of its own since: main
            # has woken nobody else.
            for queue in (self._anyone, self._own[worker]) if promised else (self._own[worker], self._anyone):
                if queue:
                    if worker in self._idle:
                        self._idle.remove(worker)
                    return queue.popleft()
            if worker not in self._idle:
                self._idle.append(worker)
            return None

    def to_wake(self) -> list[int]:
        """Return the idle workers that now have a job, their own or one for anyone. Not idle any more: wake them."""
        with self._lock:
            woken = [worker for worker in self._idle if self._own[worker]]
            for worker in woken:
                self._idle.remove(worker)
            unpromised = len(self._anyone) - len(self._on_their_way)
            for _ in range(min(unpromised, len(self._idle))):
                worker = self._idle.pop() if self.last_idle_first else self._idle.popleft()
                self._on_their_way.add(worker)
                woken.append(worker)
            return woken

    def least_loaded(self) -> int:
        """Return the worker with the fewest jobs queued or running; a dead one only if all are."""
        with self._lock:
            load = [len(own) + (worker not in self._idle) for worker, own in enumerate(self._own)]
        for worker in self._dead:
            load[worker] = MORE_THAN_ANY
        return load.index(min(load))

    def withdraw(self, job: Job) -> None:
        """Drop a job whose connection has closed: no client waits for the response."""
        for queue in (self._anyone, *self._own):
            with contextlib.suppress(ValueError):
                queue.remove(job)

    def any_queued(self) -> bool:
        """Return whether a job waits for a worker."""
        return bool(self._anyone) or any(self._own)

    def show_depths(self) -> bool:
        """Write the queues' lengths to the slots, for main and for every worker; return whether any job is queued.

        Called by main, before it waits.
        """
        self._common[slots.QUEUED] = queued = len(self._anyone)
        for own, block in zip(self._own, self._blocks, strict=True):
            block[slots.QUEUED] = length = len(own)
            queued += length
        return queued > 0

    def lose(self, worker: int) -> list[Job]:
        """Return the queued jobs of a worker that died. It gets no more until it is expected again."""
        with self._lock:
            self._dead.add(worker)
            lost = list(self._own[worker])
            self._own[worker].clear()
            self._on_their_way.discard(worker)
            if worker in self._idle:
                self._idle.remove(worker)
            return lost

    def expect(self, worker: int) -> None:
        """Queue for this worker again: it is being started."""
        self._dead.discard(worker)

    def lose_all(self) -> list[Job]:
        """Return every job that waits, since no worker is left, nor will be."""
        lost = list(self._anyone)
        self._anyone.clear()
        return lost
