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
from services.net.connection import Connection
from services.workers.control import Control
from services.workers.jobs import JobQueues
from services.workers.party import LoopFactory, Party, Settings
from services.workers.process import Helper, ProcessWorker, SpareDescriptors
from services.workers.thread import ThreadWorker
from services.workers.worker import Work, Worker
from services.workers.workers import Workers

log = logging.getLogger("services")

KINDS: dict[str, type[Worker]] = {kind.kind: kind for kind in (ThreadWorker, ProcessWorker)}
START_SECONDS = 10.0
DESCRIPTORS_TO_START_A_WORKER = 2
"""The worker's ends of its two channels; main's ends take the place of the predecessor's."""
RESTART_PAUSE_SECONDS = 0.25
"""A worker that dies sooner than this after its start is replaced only after a pause: no fork storm."""


class Main(Party):
    """The main process and its loop. Everything here is called by main's only thread."""

    def __init__(
        self,
        settings: Settings,
        blocks: slots.Slots,
        make_loop: LoopFactory,
        helper: Helper,
        control: Control,
        announce: Callable[[], None],
        clean_up: Callable[[], None],
        predecessor: Main | None = None,
    ) -> None:
        """`announce` is called when everybody serves, `clean_up` before an end at once.

        `predecessor` has drained, for a change of options: its listener goes on here, and nobody is refused.
        """
        super().__init__("main", blocks.main, settings)
        self.loop = make_loop("main", blocks.main)
        self.workers = Workers([], JobQueues([], blocks.main))
        self._blocks = blocks
        self._make_loop = make_loop
        self._helper = helper
        self._announce = announce
        self._clean_up = clean_up
        self._work: tuple[Work, tuple[Any, ...]]
        self._started_ns: dict[int, int] = {}
        self._listeners: list[socket.socket] = []
        self._only_supervises = False
        self._spare = SpareDescriptors(DESCRIPTORS_TO_START_A_WORKER)
        self._deaths = True  # of the helper, perhaps, before we listened to SIGCHLD
        self._changing = self.stopping = False
        self._kept: socket.socket | None = None
        self.loop.before_poll.append(self._look_after_the_dead)
        self.loop.at_drain.append(self._let_go_of_listener)
        control.attend(self.loop, self._change)
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, self._on_stop)
        signal.signal(signal.SIGCHLD, self.notice_death)
        self.block[slots.PID] = self.block[slots.TID] = os.getpid()
        if predecessor is not None:
            self._succeed(predecessor)

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
        self.loop.before_poll.append(self.workers.wake_in_time)
        self.loop.before_wait.append(self.workers.wake_all)
        self.loop.withdraw = jobs.withdraw
        for worker in self.workers:
            self._start(worker)
        return self.workers

    def accept(self, listener: socket.socket, wakeup: str = "alone") -> Iterator[Connection]:
        """Yield connections as they are accepted, running main's loop meanwhile."""
        self._wait_on(listener, wakeup)
        self._ready()
        return self.loop.accepting()

    def listen(self, *, reuse_port: bool = False) -> socket.socket:
        """Open a listening socket at the server's address, or go on with the predecessor's."""
        if self._kept is None:
            self._kept = super().listen(reuse_port=reuse_port)
        else:
            self._kept.setblocking(False)
            self._kept.listen(self.settings.address.backlog)  # a second listen() changes the limit
        listener = self._kept.dup()
        self._listeners.append(listener)
        return listener

    def supervise(self) -> None:
        """Only watch over the workers, who accept. Main's copy of their listener goes first in a drain."""
        self._only_supervises = True
        self.loop.at_drain.append(self._close_listeners)
        self._ready()
        self.loop.run()

    # Its own.

    def notice_death(self, *_: object) -> None:
        """A child died (SIGCHLD), or a worker thread crashed, which may call this itself."""
        self._deaths = True
        self.loop.wake()

    def finish(self) -> None:
        """After the model's `serve`: have the workers drain, and end those that take too long."""
        deadline = max(time.monotonic(), self.loop.drained_by_ns / 1e9) + 0.5
        for worker in self.workers:
            worker.order_drain()
        while time.monotonic() < deadline and not all(worker.has_ended() for worker in self.workers):
            self._bury_the_dead()
            time.sleep(0.005)
        for worker in self.workers:
            worker.kill()

    def close(self) -> None:
        """After `finish`, where a successor goes on: give back what the loops held."""
        for worker in self.workers:
            worker.close()
        self._spare.close()
        self.loop.close()

    def _succeed(self, predecessor: Main) -> None:
        for index in range(self._blocks.workers):
            block = self._blocks.worker(index)
            if block[slots.STATE]:
                block[slots.STATE] = slots.RETIRED  # unless it is started again
                block[slots.PID] = block[slots.TID] = block[slots.LISTENER_INODE] = 0
        self._kept, predecessor._kept = predecessor._kept, None
        predecessor.close()
        if predecessor.stopping:  # told so a moment ago, before its signal handler was ours
            self._on_stop()

    def _change(self) -> None:
        """Called by the control socket: drain, to go on with other options."""
        self._changing = True
        self.loop.order_drain()

    def _let_go_of_listener(self) -> None:
        """What is accepted in a drain is all that is queued; kept open, it would be queued for nobody."""
        if self._kept is not None and not self._changing:
            self._kept.close()

    @property
    def _ending(self) -> bool:
        return self.stopping or self._changing

    def _ready(self) -> None:
        self.block[slots.STATE] = slots.SERVING
        self._announce()

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()

    def _start(self, worker: Worker) -> None:
        """Start it, and wait until it serves: reuseport's workers must listen in order."""
        work, args = self._work
        self._started_ns[worker.index] = time.monotonic_ns()
        worker.block[slots.BUSY_SINCE] = 0  # a predecessor's
        worker.block[slots.STATE] = slots.STARTING
        with self._spare.lent():
            worker.start(work, *args)
        deadline = time.monotonic() + START_SECONDS
        while worker.block[slots.STATE] == slots.STARTING and not worker.has_ended():
            if time.monotonic() > deadline:
                log.error("worker %s does not serve after %g s; ending it", worker.name, START_SECONDS)
                worker.kill()  # a process: its death is noticed like any other
                return
            time.sleep(0.001)

    def _look_after_the_dead(self) -> None:
        """Called once a turn of the loop."""
        if self._deaths:
            self._deaths = False
            self._bury_the_dead()
            self._look_after_the_helper()

    def _bury_the_dead(self) -> None:
        for worker in self.workers:
            if worker.died():
                self._bury(worker)

    def _bury(self, worker: Worker) -> None:
        replace = worker.can_be_replaced and not self._ending
        log.error("worker %s died (%s)%s", worker.name, worker.how_it_ended(), "; starting another" if replace else "")
        self.workers.bury(worker)
        if not replace:
            self._give_up(worker)
            return
        self.block[slots.RESTARTS] += 1
        age_ns = time.monotonic_ns() - self._started_ns[worker.index]
        pause = RESTART_PAUSE_SECONDS if age_ns < RESTART_PAUSE_SECONDS * 1e9 else 0.0
        self.loop.call_later(pause, lambda: self._restart(worker))

    def _restart(self, worker: Worker) -> None:
        if self._ending:
            self._give_up(worker)
            return
        try:
            self._start(worker)
        except OSError as error:  # no memory or no process number now: there may be later
            log.error("worker %s cannot be replaced yet: %s", worker.name, error)  # noqa: TRY400
            self.loop.call_later(RESTART_PAUSE_SECONDS, lambda: self._restart(worker))

    def _give_up(self, worker: Worker) -> None:
        self.workers.give_up(worker)
        if self.workers.all_given_up and self._only_supervises:
            self._close_listeners()  # nobody will accept: refuse, rather than let them wait
            self._let_go_of_listener()

    def _look_after_the_helper(self) -> None:
        helper = self._helper
        if helper.child.has_ended() and not helper.buried and not self._ending:
            helper.buried = True
            log.error("the %s died (%s); starting another", helper.name, helper.child.how_it_ended())
            self.loop.call_later(RESTART_PAUSE_SECONDS, self._restart_helper)

    def _restart_helper(self) -> None:
        if self._ending:
            return
        try:
            self._helper.start()
        except OSError as error:
            log.error("the %s cannot be replaced yet: %s", self._helper.name, error)  # noqa: TRY400
            self.loop.call_later(RESTART_PAUSE_SECONDS, self._restart_helper)

    def _on_stop(self, *_: object) -> None:
        if self.stopping:  # asked twice: now
            for worker in self.workers:
                worker.kill()
            self._clean_up()
            sys.stderr.write("stopped at once\n")
            os._exit(1)
        self.stopping = True
        self.loop.order_drain()
