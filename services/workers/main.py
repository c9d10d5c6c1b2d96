"""Main: the process that the user starts. It opens, starts, watches, replaces and ends; a model decides the rest.

It forks before it starts any thread, and it is the only one that forks (fork.py says why).

Signals. A C handler of the kernel's signal may run between any two instructions, so CPython's only sets a flag; the
Python handler runs later, in the main thread, between two bytecodes. Two rules follow. The handler may find every
object of main half changed, so it changes none: it sets a flag and wakes the loop, which acts in its next iteration.
And a signal alone does not end the loop's wait: Python restarts an interrupted epoll_wait after the handler (PEP
475), so the handler writes to the loop's eventfd (`EventLoop.wake`), which then is readable. signal.set_wakeup_fd
could do the same; the eventfd is there anyway, since worker threads that end write to it, too.

    signal           main                                            a worker process
    ---------------  ----------------------------------------------  ------------------------------
    SIGTERM          drain; the second time, end at once             drain (main sends it)
    SIGINT           the same                                        ignored: a terminal sends it to
    SIGHUP           drain, once only; ignored under nohup           all, and main's part is to say
    SIGCHLD          look for dead children in the next iteration    default

SIGCHLD is not counted: two children that die together may send one. So its handler only notes that there was a death,
and the loop then asks each worker (`_reap_the_dead`). A child that dies before the handler is there sends none that
we see, which is why `_deaths` begins as True.

The exception is the second SIGTERM: it ends the process from inside the handler, since the loop may be what is stuck.
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
from services.workers.fork import SpareDescriptors
from services.workers.handle import Handle
from services.workers.helper import Helper
from services.workers.jobs import JobQueues
from services.workers.pool import Pool
from services.workers.process import ProcessHandle
from services.workers.server import CannotServeError, LoopFactory, Server, Settings
from services.workers.thread import ThreadHandle
from services.workers.worker import Work

log = logging.getLogger("services")

KINDS: dict[str, type[Handle]] = {kind.kind: kind for kind in (ThreadHandle, ProcessHandle)}
START_SECONDS = 10.0
IMPORT_SECONDS = 60.0
"""A worker that imports an application of one's own has so long to start."""
DESCRIPTORS_TO_START_A_WORKER = 2
"""The worker's ends of a process's two channels, or a thread's copy of the listener with the acceptor's own; all else
takes the place of the predecessor's."""
RESTART_PAUSE_SECONDS = 0.25
"""A worker that dies sooner than this after its start is replaced only after a pause: no fork storm."""


class Main(Server):
    """The main process and its loop. Everything here is called by main's only thread, but `notice_death`."""

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
        """`announce` is called when all workers serve, `clean_up` before an end at once.

        `predecessor` has drained, for a change of options: its listener goes on here, and no client is refused.
        """
        super().__init__("main", settings, make_loop("main", blocks.main))
        self.loop.start()
        self.workers = Pool([], JobQueues([], blocks.main))
        self._blocks = blocks
        self._make_loop = make_loop
        self._helper = helper
        self._announce = announce
        self._clean_up = clean_up
        self._work: tuple[Work, tuple[Any, ...]]
        self._listeners: list[socket.socket] = []
        self._spare = SpareDescriptors(DESCRIPTORS_TO_START_A_WORKER)
        self._deaths = True  # of the helper, perhaps, before we listened to SIGCHLD
        self._changing = self.stopping = False
        self._kept: socket.socket | None = None
        self.loop.before_poll.append(self._look_for_deaths)
        self.loop.at_drain.append(self._let_go_of_listener)
        control.attend(self.loop, self._change)
        self._handle_signals()
        self.block[slots.PID] = self.block[slots.TID] = os.getpid()
        if predecessor is not None:
            self._succeed(predecessor)

    # Called by models.

    def start_workers(self, work: Work, *args: Any, number: int | None = None) -> Pool:
        """Start the workers, one after the other, each running `work(worker, *args)`.

        Raises OSError, or CannotServeError.
        """
        blocks = [self._blocks.worker(index) for index in range(number or self.settings.workers)]
        jobs = JobQueues(blocks, self.block)
        kind = KINDS[self.settings.worker_kind]
        self._work = (work, args)
        self.workers = Pool(
            [
                kind(index, block, self.settings, self._make_loop, self.loop, self.notice_death, jobs)
                for index, block in enumerate(blocks)
            ],
            jobs,
        )
        self.loop.before_poll.append(self.workers.wake_in_time)
        self.loop.before_wait.append(self.workers.wake_all)
        self.loop.withdraw = jobs.withdraw
        for started, worker in enumerate(self.workers):
            try:
                self._start_first(worker)
            except (OSError, CannotServeError):
                # Those that were started give back what they hold: a server may go on with its old options.
                del self.workers[started:]
                self.finish()
                self._close_workers()
                raise
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
        self.loop.at_drain.append(self._close_listeners)
        self._ready()
        self.loop.run()

    # Its own.

    def notice_death(self) -> None:
        """Note that a child died (SIGCHLD), or that a worker thread ended, which may call this itself."""
        self._deaths = True
        self.loop.wake()

    def finish(self) -> None:
        """Have the workers drain, after the model's `serve`, and end those that take too long."""
        deadline = max(time.monotonic(), self.loop.drained_by_ns / 1e9) + 0.5
        for worker in self.workers:
            worker.order_drain()
        while time.monotonic() < deadline and not all(worker.has_ended() for worker in self.workers):
            self._reap_the_dead()
            time.sleep(0.005)
        for worker in self.workers:
            worker.kill()

    def close(self) -> None:
        """Give back what the loops held, after `finish`, where a successor goes on."""
        self._close_workers()
        self._close_listeners()
        self._spare.close()
        self.loop.close()

    def _close_workers(self) -> None:
        while self.workers:
            self.workers.pop().close()

    def _succeed(self, predecessor: Main) -> None:
        for index in range(self._blocks.workers):
            block = self._blocks.worker(index)
            if block[slots.STATE]:
                block[slots.STATE] = slots.RETIRED  # unless it is started again
                block[slots.PID] = block[slots.TID] = block[slots.LISTENER_INODE] = 0
        self._kept, predecessor._kept = predecessor._kept, None
        predecessor.close()
        if predecessor.stopping:  # by a signal of a moment ago, before its handler was ours
            self._stop()

    def _change(self) -> None:
        """Drain, to go on with other options. Called by the control socket."""
        self._changing = True
        self.loop.order_drain()

    def _let_go_of_listener(self) -> None:
        """Close it: what is accepted in a drain is all that is queued; kept open, it would be queued for nobody."""
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

    # Workers that start, die and are replaced.

    def _start_first(self, worker: Handle) -> None:
        """Start a worker that has no predecessor. What it cannot load now, its successors could not either."""
        self._start(worker)
        if worker.cannot_serve():
            raise CannotServeError(worker.why())

    def _start(self, worker: Handle) -> None:
        """Start it, and wait until it serves: reuseport's workers must listen in order."""
        work, args = self._work
        with self._spare.lent():
            worker.start(work, *args)
        seconds = IMPORT_SECONDS if self.settings.options.get("app") else START_SECONDS
        deadline = time.monotonic() + seconds
        while worker.block[slots.STATE] == slots.STARTING and not worker.has_ended():
            if time.monotonic() > deadline:
                log.error("worker %s does not serve after %g s; ending it", worker.name, seconds)
                worker.kill()  # a process: its death is noticed like any other
                return
            time.sleep(0.001)

    def _look_for_deaths(self) -> None:
        """Reap and replace what has died. Called once an iteration of the loop."""
        if self._deaths:
            self._deaths = False
            self._reap_the_dead()
            self._reap_helper()

    def _reap_the_dead(self) -> None:
        for worker in self.workers:
            if worker.died():
                self._replace(worker)

    def _replace(self, worker: Handle) -> None:
        connections = self.workers.reap(worker)
        log.error(
            "worker %s died (%s) with %d %s; %s", worker.name, worker.how_it_ended(), connections,
            "connection" if connections == 1 else "connections",
            "not replaced, since the server drains" if self._ending else "starting another",
        )  # fmt: skip
        if self._ending:
            self.workers.give_up(worker)
            return
        self.block[slots.RESTARTS] += 1
        age_ns = time.monotonic_ns() - worker.started_ns
        pause = RESTART_PAUSE_SECONDS if age_ns < RESTART_PAUSE_SECONDS * 1e9 else 0.0
        self.loop.call_later(pause, lambda: self._restart(worker))

    def _restart(self, worker: Handle) -> None:
        if self._ending:
            self.workers.give_up(worker)
            return
        try:
            self._start(worker)
        except (OSError, CannotServeError) as error:  # no memory, number or application now: there may be later
            log.error("worker %s cannot be replaced yet: %s", worker.name, error)  # noqa: TRY400
            self.loop.call_later(RESTART_PAUSE_SECONDS, lambda: self._restart(worker))

    def _reap_helper(self) -> None:
        how = self._helper.reap()
        if how is not None and not self._ending:
            log.error("the %s died (%s); starting another", self._helper.name, how)
            self.loop.call_later(RESTART_PAUSE_SECONDS, self._restart_helper)

    def _restart_helper(self) -> None:
        if self._ending:
            return
        try:
            self._helper.start()
        except OSError as error:
            log.error("the %s cannot be replaced yet: %s", self._helper.name, error)  # noqa: TRY400
            self.loop.call_later(RESTART_PAUSE_SECONDS, self._restart_helper)

    # Signals.

    def _handle_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop())
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup's
            signal.signal(signal.SIGHUP, lambda *_: self._hang_up())
        signal.signal(signal.SIGCHLD, lambda *_: self.notice_death())

    def _hang_up(self) -> None:
        """Drain. A terminal that closes says so twice, once by the kernel and once by the shell: that is no hurry."""
        if not self.stopping:
            self._stop()

    def _stop(self) -> None:
        """Drain; asked for the second time, end at once."""
        if self.stopping:
            for worker in self.workers:
                worker.kill()
            self._clean_up()
            sys.stderr.write("stopped at once\n")
            os._exit(1)
        self.stopping = True
        self.loop.order_drain()
