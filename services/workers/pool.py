"""The workers of a model, all together: which gets the next connection, and which the next request."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count

from services.net.job import Job
from services.workers.handle import Handle
from services.workers.jobs import JobQueues


class Pool(list[Handle]):
    """The workers of a model, and the queues of requests between main and them. Everything is called by main."""

    def __init__(self, workers: list[Handle], jobs: JobQueues) -> None:
        super().__init__(workers)
        self._jobs = jobs
        self._patience_ns = max((worker.patience_ns for worker in workers), default=0)
        self._woken_ns = 0
        self._shows_queued = False
        """The depths last shown are not all zero."""
        self._given_up: set[int] = set()

    # Which gets the next connection.

    def in_turn(self) -> Iterator[Handle]:
        """Yield one after the other, for ever, passing over those that do not serve (dead, or being replaced).

        Where none serves it is simply the next: its `hand_off` closes the connection, and counts it.
        """
        for number in count():
            worker = self[number % len(self)]
            if worker.is_serving or not any(neighbour.is_serving for neighbour in self):
                yield worker

    def least_waiting(self) -> Iterator[Handle]:
        """Yield the worker that has the fewest connections still to take, and of several such the next in turn.

        Workers that keep up have none, so they take turns; one that is stuck is passed over.
        """
        last = -1
        while True:
            worker = min(self.serving(), key=lambda worker: (worker.waiting, (worker.index - last - 1) % len(self)))
            last = worker.index
            yield worker

    def serving(self) -> Sequence[Handle]:
        """Return those that serve; all where none does, as in `in_turn`."""
        return [worker for worker in self if worker.is_serving] or self

    # Which gets the next request. Each returns the function that submits one.

    def last_idle(self) -> Callable[[Job], None]:
        """Have the worker execute it that became idle last; it waits while all are busy."""
        return self._jobs.put

    def first_idle(self) -> Callable[[Job], None]:
        """Have the worker execute it that has been idle for the longest time."""
        self._jobs.last_idle_first = False
        return self._jobs.put

    def least_loaded(self) -> Callable[[Job], None]:
        """Have the worker with the fewest requests execute it."""
        return lambda job: self._jobs.put_for(self._jobs.least_loaded(), job)

    def chosen(self, choose: Callable[[Job], int]) -> Callable[[Job], None]:
        """Have the worker that `choose` names execute it, however long its queue; while that is dead, any."""
        return lambda job: self._jobs.put_for(choose(job), job)

    def wake_in_time(self) -> None:
        """Wake workers if main has not for a while: it may go on finding events for long. Called once an iteration."""
        if time.monotonic_ns() - self._woken_ns > self._patience_ns:
            self.wake_all()

    def wake_all(self) -> None:
        """Wake those that have a job, or fail the jobs where no worker is left. At the latest before main waits."""
        self._woken_ns = time.monotonic_ns()
        if not (self._shows_queued or self._jobs.any_queued()):
            return
        for index in self._jobs.to_wake():
            self[index].wake()
        if len(self._given_up) == len(self):
            self._fail_all()
        self._shows_queued = self._jobs.show_depths()

    # When one dies.

    def reap(self, worker: Handle) -> int:
        """Deal with its death: its neighbours do what it had not begun. Return how many connections ended with it."""
        loss = worker.reap()
        for job in loss.jobs:
            self._jobs.put(job)
        return loss.connections

    def give_up(self, worker: Handle) -> None:
        """Expect no successor of it. Requests wait for workers, but not for none."""
        self._given_up.add(worker.index)

    def _fail_all(self) -> None:
        for job in self._jobs.lose_all():
            job.connection.close("worker_died")
