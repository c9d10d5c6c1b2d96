"""Main: the process that the user starts. It opens, starts, watches, replaces and ends; a model decides the rest.

It forks before it starts any thread, and it is the only one that forks.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from services.metrics import slots
from services.net.connection import Connection, Job
from services.workers.jobs import JobQueues
from services.workers.party import LoopFactory, Party, Settings
from services.workers.process import ProcessWorker
from services.workers.thread import ThreadWorker
from services.workers.worker import Work, Worker

log = logging.getLogger("services")

KINDS: dict[str, type[Worker]] = {kind.kind: kind for kind in (ThreadWorker, ProcessWorker)}
START_SECONDS = 10.0
RESTART_PAUSE_SECONDS = 0.25
"""A worker that dies sooner than this after its start is replaced only after a pause: no fork storm."""


class Workers(list[Worker]):
    """The workers of a model, and the queues of requests between main and them."""

    def __init__(self, workers: list[Worker], jobs: JobQueues) -> None:
        super().__init__(workers)
        self._jobs = jobs
        self._asleep: list[int] = []
        self._submitted_to = False

    def submit_to_idle(self, job: Job, *, last_idle_first: bool) -> None:
        """Have any idle worker execute the job; it waits while all are busy."""
        self._wake(self._jobs.put(job, last_idle_first=last_idle_first))

    def submit_to_least_loaded(self, job: Job) -> None:
        """Have the worker with the fewest requests execute the job."""
        self.submit_to(self._jobs.least_loaded(), job)

    def submit_to(self, index: int, job: Job) -> None:
        """Have this very worker execute the job, however long its queue."""
        self._wake(self._jobs.put_for(index, job))

    def _wake(self, index: int | None) -> None:
        self._submitted_to = True
        if index is not None:
            self._asleep.append(index)

    def wake_all(self) -> None:
        """Wake those that were given something: once a turn of main's loop, before it waits.

        A thread woken at once would take the interpreter lock at main's next system call, execute one
        request and sleep again: two context switches a request, and a third of the throughput.
        """
        if self._submitted_to:
            for index in self._asleep:
                self[index].wake()
            self._asleep.clear()
            self._jobs.show_depths()


class Main(Party):
    """The main process and its loop. Everything here is called by main's only thread."""

    def __init__(
        self, settings: Settings, blocks: slots.Slots, make_loop: LoopFactory, announce: Callable[[], None]
    ) -> None:
        super().__init__("main", blocks.main, settings)
        self.loop = make_loop("main", blocks.main)
        self.workers = Workers([], JobQueues([], blocks.main))
        self._blocks = blocks
        self._make_loop = make_loop
        self._announce = announce
        self._work: tuple[Work, tuple[Any, ...]]
        self._started_ns: dict[int, int] = {}
        self._listeners: list[socket.socket] = []
        self._deaths = False
        self._stopping = False
        self.loop.before_poll.append(self._replace_the_dead)
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, self._on_stop)
        signal.signal(signal.SIGCHLD, self._on_death)
        self.block[slots.PID] = self.block[slots.TID] = os.getpid()

    # Called by models.

    def start_workers(self, work: Work, *args: Any, number: int | None = None) -> Workers:
        """Start the workers, one after the other, each running `work(worker, *args)`."""
        number = number or self.settings.workers
        blocks = [self._blocks.worker(index) for index in range(number)]
        jobs = JobQueues(blocks, self.block)
        kind = KINDS[self.settings.worker_kind]
        self._work = (work, args)
        self.workers = Workers(
            [kind(index, block, self.settings, self._make_loop, self, jobs) for index, block in enumerate(blocks)], jobs
        )
        self.loop.before_poll.append(self.workers.wake_all)
        for worker in self.workers:
            self._start(worker)
        return self.workers

    def accept(self, listener: socket.socket, wakeup: str = "alone") -> Iterator[Connection]:
        """Yield connections as they are accepted, running main's loop meanwhile."""
        self._wait_on(listener, wakeup)
        self._ready()
        return self.loop.accepting()

    def listen(self, *, reuse_port: bool = False) -> socket.socket:
        """Open a listening socket at the server's address."""
        listener = super().listen(reuse_port=reuse_port)
        self._listeners.append(listener)
        return listener

    def supervise(self) -> None:
        """Only watch over the workers, who accept. Main's copy of their listener goes first in a drain."""
        self.loop.at_drain.extend(listener.close for listener in self._listeners)
        self._ready()
        self.loop.run()

    # Its own.

    def finish(self) -> None:
        """After the model's `serve`: have the workers drain, and end those that take too long."""
        deadline = max(time.monotonic(), self.loop.drained_by_ns / 1e9) + 0.5
        for worker in self.workers:
            worker.order_drain()
        while time.monotonic() < deadline and not all(worker.has_ended() for worker in self.workers):
            time.sleep(0.005)
        for worker in self.workers:
            worker.kill()

    def _ready(self) -> None:
        self.block[slots.STATE] = slots.SERVING
        self._announce()

    def _start(self, worker: Worker) -> None:
        """Start it, and wait until it serves: reuseport's workers must listen in order."""
        work, args = self._work
        self._started_ns[worker.index] = time.monotonic_ns()
        worker.block[slots.STATE] = slots.STARTING
        worker.start(work, *args)
        deadline = time.monotonic() + START_SECONDS
        while worker.block[slots.STATE] == slots.STARTING and time.monotonic() < deadline and not worker.has_ended():
            time.sleep(0.001)

    def _on_death(self, *_: object) -> None:
        self._deaths = True
        self.loop.wake()

    def _replace_the_dead(self) -> None:
        if not self._deaths or self._stopping:
            return
        self._deaths = False
        for worker in self.workers:
            if isinstance(worker, ProcessWorker) and worker.has_ended() and not worker.buried:
                self._replace(worker)

    def _replace(self, worker: ProcessWorker) -> None:
        log.error("worker %s (pid %d) died; starting another", worker.name, worker.pid)
        lost = worker.bury()
        self.block[slots.RESTARTS] += 1
        age_ns = time.monotonic_ns() - self._started_ns[worker.index]
        pause = RESTART_PAUSE_SECONDS if age_ns < RESTART_PAUSE_SECONDS * 1e9 else 0.0
        self.loop.call_later(pause, lambda: self._restart(worker, lost))

    def _restart(self, worker: ProcessWorker, lost: list[Job]) -> None:
        if not self._stopping:
            try:
                self._start(worker)
            except OSError as error:  # no descriptors or no memory now: there may be later
                log.error("worker %s cannot be replaced yet: %s", worker.name, error)  # noqa: TRY400
                self.loop.call_later(RESTART_PAUSE_SECONDS, lambda: self._restart(worker, lost))
                return
        for job in lost:
            self.workers.submit_to(worker.index, job)

    def _on_stop(self, *_: object) -> None:
        if self._stopping:  # asked twice: now
            for worker in self.workers:
                worker.kill()
            sys.stderr.write("stopped at once\n")
            os._exit(1)
        self._stopping = True
        self.loop.order_drain()
