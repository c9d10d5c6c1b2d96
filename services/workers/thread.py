"""Workers that are threads: they share memory with main and, where there is a GIL, one interpreter lock.

What ends a thread. An exception that nobody catches ends this thread alone: its connections are closed, the request
that it had begun fails, and main starts another thread in its place. Whatever ends a process ends main with all its
threads, and so every connection: a fatal signal (SIGSEGV in a C extension, SIGKILL) and `os._exit`. Main can then say
nothing itself: its exit status is the signal's, faulthandler writes for a fatal signal where each thread was, and
whoever supervises the server starts it again.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from services.messages import Execution, Later, Response
from services.metrics import slots
from services.net.connection import Connection
from services.net.job import Job
from services.net.mailbox import Mailbox
from services.workers.handle import Handle
from services.workers.jobs import JobQueues
from services.workers.server import CannotServeError, LoopFactory, Settings
from services.workers.worker import Work, Worker

log = logging.getLogger("services")

MAX_HANDED_OFF = 1024
"""Connections that may wait for one worker; more are closed and counted."""


class ThreadHandle(Handle):
    """Main's end of a worker in a thread of main's process."""

    kind = "thread"
    # Two threads of one interpreter lock never run at the same time, so main gains nothing by waking a worker early;
    # and each hand-over of the lock is two context switches. With this, 43 requests share one under load, and the
    # server does a fifth more of them than if main woke its workers in every iteration (8 requests).
    patience_ns = 500_000 if getattr(sys, "_is_gil_enabled", lambda: True)() else 0
    _worker: ThreadWorker | None = None
    _thread: threading.Thread

    def _launch(self, work: Work, args: tuple[Any, ...]) -> None:
        # A thread shares main's descriptors; with a copy of its own each can wait on, and close, "its" listener.
        own = tuple(arg.dup() if isinstance(arg, socket.socket) else arg for arg in args)
        worker = ThreadWorker(self.index, self.block, self._settings, self._make_loop, self._jobs, self._notice_death)
        thread = threading.Thread(target=worker.run, args=(work, own), name=f"worker-{self.name}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no memory or no process number for another: there may be later
            worker.close()
            raise OSError(errno.EAGAIN, str(error)) from error
        self._worker, self._thread = worker, thread
        self._loop.watch(worker.responses.fd, worker.responses)

    def _send(self, connection: Connection) -> bool:
        return self._running.connections.put(connection)

    def _is_gone(self) -> bool:
        return self._running.has_ended

    @property
    def _running(self) -> ThreadWorker:
        assert self._worker is not None, "start() comes first"
        return self._worker

    def wake(self) -> None:
        """Tell the worker that a job is queued for it."""
        self._running.ring()

    def order_drain(self) -> None:
        """Have it finish what is begun, then end."""
        if not self.reaped:
            self._drain_ordered = True
            self._running.order_drain()

    def kill(self) -> None:
        """Do nothing: a thread cannot be killed; it is a daemon, so it ends with main."""

    def has_ended(self) -> bool:
        """Return whether it runs no more."""
        return self._running.has_ended

    def how_it_ended(self) -> str:
        """Return how, for the log."""
        return f"its thread raised {self._running.error!r}" if self._running.error else "its thread returned"

    def _ended_well(self) -> bool:
        return self._running.error is None

    def close(self) -> None:
        """Give back what it held; what a thread holds that is stuck in a request, it gives back itself."""
        if not self.reaped:
            self._loop.forget(self._running.responses.fd)
            if self._running.detach():
                self._count_what_died()
        self._close_ends()

    def _close_ends(self) -> None:
        if self._worker is not None and self._worker.has_ended:
            self._worker.close()

    def _receive_what_is_left(self) -> None:
        worker = self._running
        self._thread.join()  # telling main was its last act
        worker.responses.ready(0)
        self._loop.forget(worker.responses.fd)
        for connection in worker.connections.take_all():
            connection.socket.close()

    def _take_begun(self) -> list[Job]:
        worker = self._running
        begun = [*([worker.job] if worker.job is not None else []), *worker.awaiting]
        worker.job = None
        worker.awaiting.clear()
        return begun

    def cannot_serve(self) -> bool:
        """Return whether it has ended because no worker could serve with these options."""
        return self.has_ended() and isinstance(self._running.error, CannotServeError)

    def why(self) -> str:
        """Return why no worker could."""
        return str(self._running.error)


class ThreadWorker(Worker):
    """Own end of a worker in a thread of main's process. Main's end calls what is public and not a Worker's."""

    def __init__(
        self,
        index: int,
        block: slots.Block,
        settings: Settings,
        make_loop: LoopFactory,
        jobs: JobQueues,
        notice_death: Callable[[], None],
    ) -> None:
        """Raise OSError where there are too few descriptors, and keep none of them."""
        with contextlib.ExitStack() as held:
            loop = make_loop(str(index), block)
            held.callback(loop.close)
            super().__init__(index, settings, loop)
            self.connections: Mailbox[Connection] = Mailbox(self._pick_up, MAX_HANDED_OFF)
            loop.watch(self.connections.fd, self.connections)
            # One may have come since this iteration's events.
            loop.at_drain.append(lambda: self.connections.ready(0))
            # No limit of its own: what main has submitted and has no response yet has one, and a response refused here
            # would leave a client waiting for ever.
            self.responses: Mailbox[tuple[Job, Response]] = Mailbox(deliver)
            held.callback(os.close, self.responses.fd)
            # Not a lock: who rings lets go of the interpreter lock while it does, which is what the woken thread needs.
            self._alarm = os.eventfd(0, os.EFD_CLOEXEC)
            held.callback(os.close, self._alarm)
            self._held = held.pop_all()
        self.job: Job | None = None
        """The request that it executes now."""
        self.awaiting: set[Job] = set()
        """Requests that it has begun, and whose application awaits something."""
        self._notices: Mailbox[Callable[[], None]] | None = None
        self.has_ended = False
        self.error: BaseException | None = None
        """The exception that ended it, if one did."""
        self._jobs = jobs
        self._notice_death = notice_death
        self._draining = self._detached = False
        self._ending = threading.Lock()

    # Called by main's end.

    def ring(self) -> None:
        """Wake it: a job is queued for it, or it is to drain."""
        if self._notices is None:
            os.eventfd_write(self._alarm, 1)
        else:
            self.loop.wake()

    def order_drain(self) -> None:
        """Have it finish what is begun, then end."""
        self._draining = True
        self.ring()
        self.loop.order_drain()

    def detach(self) -> bool:
        """Part from a thread that is stuck in a request, for main's successor begins without it; False: it has ended.

        One day it comes back to its loop, and ends. Until then its descriptors stay open, since their numbers would
        be given to the successor's connections; and it counts where nobody looks.
        """
        with self._ending:
            if self.has_ended:
                return False
            self._detached = True
            if self.acceptor is not None:
                self.acceptor.stand_aside()
            aside = slots.Slots(0).main
            aside[:] = self.block
            self.block = self.loop.block = self.loop.sampler.block = aside
            return True

    def close(self) -> None:
        """Close its descriptors, once it has ended."""
        self._held.close()

    # Called by its own thread.

    def run(self, work: Work, args: tuple[Any, ...]) -> None:
        """Do the work: the thread's function."""
        self._begin()
        try:
            self.loop.start()
            work(self, *args)
        except CannotServeError as error:
            self.error = error
            self._end(slots.CRASHED)
        except BaseException as error:
            log.exception("worker %s crashed", self.name)
            self.error = error.with_traceback(None)  # its frames would keep what they hold
            with self._ending:
                # Before anything is closed: whoever hears of that comes back at once, and must not be handed off to us.
                self.block[slots.STATE] = slots.CRASHED
            try:
                self._close_connections()
            finally:
                self._end(slots.CRASHED)
        else:
            self._end(slots.GONE)

    def _end(self, state: int) -> None:
        """Tell main: the thread's last act."""
        with self._ending:
            self.has_ended = True
            if not self._detached:
                self.block[slots.STATE] = state
                self._notice_death()
                return
        self.close()

    def _close_connections(self) -> None:
        """Close what the kernel would close for a process. An open listener would go on to be given connections."""
        if self.acceptor is not None:
            self.acceptor.close()
        for connection in list(self.loop.connections):
            connection.close("worker_died")
        for connection in self.loop.accepted:
            connection.socket.close()

    def submitted(self) -> Iterator[Job]:
        """Yield each request submitted to this worker; ends after a drain."""
        self.block[slots.STATE] = slots.SERVING
        if self.loop.guest is not None:
            yield from self._submitted_to_loop()
            return
        self.job = self._jobs.take(self.index)
        while True:
            if self.job is not None:
                yield self.job
                continue  # with what `reply` has taken
            if self._draining:
                return
            slots.end_busy(self.block)
            os.eventfd_read(self._alarm)
            slots.begin_busy(self.block)
            self.job = self._jobs.take(self.index)

    def _submitted_to_loop(self) -> Iterator[Job]:
        self._notices = Mailbox(call)
        self.loop.watch(self._notices.fd, self._notices)
        self.loop.wait_limits.append(lambda: None if self.job is None else 0.0)
        self.job = self._jobs.take(self.index)
        while self.loop.run_once():
            if self.job is None:
                self.job = self._jobs.take_or_idle(self.index)
            if self.job is not None:
                yield self.job

    def reply(self, job: Job, response: Response | Later) -> None:
        """Send the response to main's loop. If it comes later, go on with the next request first."""
        # First the next job, or idle: whoever has the response may ask again at once, and finds this worker on the
        # stack of idle ones.
        self.job = self._jobs.take(self.index)
        if isinstance(response, Response):
            self.responses.put((job, response))
            self._count_sample(job)
            return
        self.awaiting.add(job)
        response.then(partial(self._finish, job))
        job.attend(Elsewhere(self, job, response))

    def _finish(self, job: Job, response: Response) -> None:
        self.awaiting.discard(job)
        super()._finish(job, response)
        self.responses.put((job, response))

    def note(self, notice: Callable[[], None]) -> None:
        """Call `notice` on this worker's thread. From any."""
        assert self._notices is not None
        self._notices.put(notice)


class Elsewhere:
    """An execution in a worker's thread, for main: an `Execution`."""

    def __init__(self, worker: ThreadWorker, job: Job, execution: Execution) -> None:
        self._worker = worker
        self._job = job
        self._execution = execution

    def end_of_input(self) -> None:
        """Tell the execution that the client has sent its last byte."""
        self._worker.note(self._execution.end_of_input)

    def cancel(self) -> None:
        """Tell the execution that nobody waits for the response."""
        self._worker.note(self._cancel)

    def _cancel(self) -> None:
        self._worker.awaiting.discard(self._job)
        self._execution.cancel()


def call(notice: Callable[[], None]) -> None:
    """Call it. Called by the worker's loop."""
    notice()


def deliver(ready: tuple[Job, Response]) -> None:
    """Give a response to its connection. Called by main's loop."""
    job, response = ready
    job.connection.reply(job, response)
