"""The workers of a model, all together: whom to give the next connection, and whom the next request."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count

from services.net.connection import Job
from services.workers.jobs import JobQueues
from services.workers.worker import Worker


class Workers(list[Worker]):
    """The workers of a model, and the queues of requests between main and them. Everything is called by main."""

    def __init__(self, workers: list[Worker], jobs: JobQueues) -> None:
        super().__init__(workers)
        self._jobs = jobs
        self._patience_ns = max((worker.patience_ns for worker in workers), default=0)
        self._woken_ns = 0
        self._shows_queued = False
        """The depths last shown are not all zero."""
        self._given_up: set[int] = set()

    # Whom to give the next connection.

    def in_turn(self) -> Iterator[Worker]:
        """One after the other, for ever, passing over those that do not serve (dead, or being replaced).

        Where none serves it is whoever is next: its `hand_off` closes the connection, and counts it.
        """
        for turn in count():
            worker = self[turn % len(self)]
            if worker.is_serving or not any(other.is_serving for other in self):
                yield worker

    def serving(self) -> Sequence[Worker]:
        """Those that serve; all where none does, as in `in_turn`."""
        return [worker for worker in self if worker.is_serving] or self

    # Whom to give the next request. Each says how to submit one.

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
        """Called once a turn: main may go on finding events for long, and those that it woke no more are few."""
        if time.monotonic_ns() - self._woken_ns > self._patience_ns:
            self.wake_all()

    def wake_all(self) -> None:
        """Wake those that were given something, or fail it where none is left. At the latest before main rests."""
        self._woken_ns = time.monotonic_ns()
        if not (self._shows_queued or self._jobs.any_queued()):
            return
        for index in self._jobs.to_wake():
            self[index].wake()
        if self.all_given_up:
            self._fail_all()
        self._shows_queued = self._jobs.show_depths()

    # When one dies.

    def bury(self, worker: Worker) -> None:
        """Fail what it had begun; others do what it had not."""
        lost = worker.bury()
        for job in lost:
            self._jobs.put(job)

    def give_up(self, worker: Worker) -> None:
        """It will not be replaced. Requests wait for workers, but not for none."""
        self._given_up.add(worker.index)

    @property
    def all_given_up(self) -> bool:
        """No worker is left, nor will be."""
        return len(self._given_up) == len(self)

    def _fail_all(self) -> None:
        for job in self._jobs.lose_all():
            job.connection.close("worker_died")
