"""Workers that are threads: they share memory with main and, where there is a GIL, one interpreter lock."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

from services.messages import Response
from services.metrics import slots
from services.net.connection import Connection, Job
from services.net.mailbox import Mailbox
from services.workers.worker import MAX_HANDED_OFF, Work, Worker

log = logging.getLogger("services")


class ThreadWorker(Worker):
    """A worker in a thread of main's process."""

    kind = "thread"
    can_be_replaced = False
    # Two threads of one interpreter lock never run at the same time, so main gains nothing by waking a worker early;
    # and each hand-over of the lock is two context switches. With this, 43 requests share one under load, and the
    # server does a fifth more of them than if main woke its workers every turn (8 requests).
    patience_ns = 500_000 if getattr(sys, "_is_gil_enabled", lambda: True)() else 0

    def start(self, work: Work, *args: Any) -> None:
        """Called by main."""
        self.loop = self._make_loop(self.name, self.block)
        self._connections: Mailbox[Connection] = Mailbox(self._pick_up, MAX_HANDED_OFF)
        self.loop.watch(self._connections.fd, self._connections)
        self.loop.at_drain.append(lambda: self._connections.ready(0))  # one may have come since this turn's events
        # No limit of its own: what main has submitted and not been answered has one, and an answer refused here
        # would leave a client waiting for ever.
        self._answers: Mailbox[tuple[Job, Response]] = Mailbox(deliver)
        self._main.loop.watch(self._answers.fd, self._answers)
        # Not a lock: who rings lets go of the interpreter lock while it does, which is what the woken thread needs.
        self._alarm = os.eventfd(0, os.EFD_CLOEXEC)
        self._draining = False
        self._ending = threading.Lock()
        self._has_ended = self._outlived = False
        # A thread shares main's descriptors; with a copy of its own each can wait on, and close, "its" listener.
        own = tuple(arg.dup() if isinstance(arg, socket.socket) else arg for arg in args)
        self._thread = threading.Thread(target=self._run, args=(work, own), name=f"worker-{self.name}", daemon=True)
        self._thread.start()

    def _send(self, connection: Connection) -> bool:
        return self._connections.put(connection)

    def wake(self) -> None:
        """Called by main."""
        os.eventfd_write(self._alarm, 1)

    def order_drain(self) -> None:
        """Called by main."""
        self._draining = True
        self.wake()
        self.loop.order_drain()

    def has_ended(self) -> bool:
        """Called by main."""
        return self._has_ended

    def died(self) -> bool:
        """Called by main."""
        return self.block[slots.STATE] == slots.CRASHED and not self.buried

    def how_it_ended(self) -> str:
        """Called by main."""
        return "its thread crashed"

    def kill(self) -> None:
        """A thread cannot be killed; it is a daemon, so it ends with main. Called by main."""

    def close(self) -> None:
        """Called by main."""
        with self._ending:
            if not self._has_ended:
                self._outlive()
                return
        self._close_own()

    def _outlive(self) -> None:
        """It is stuck in a request, and main's successor begins without it: what it touches from now on is its own.

        One day it comes back to its loop, and ends. Until then its descriptors stay open, since their numbers would
        be given to the successor's connections; and it counts where nobody looks.
        """
        self._outlived = True
        self._main.loop.forget(self._answers.fd)
        if self.acceptor is not None:
            self.acceptor.stand_aside()
        aside = slots.Slots(0).main
        aside[:] = self.block
        self._count_what_died()
        self.block = self.loop.block = self.loop.sampler.block = aside

    def _close_own(self) -> None:
        """Not the answers': main's loop closes that, or the thread itself, where it outlives that loop."""
        self.loop.close()
        os.close(self._alarm)

    def _close_what_is_left(self) -> None:
        self._thread.join()  # telling main was its last act
        for connection in self._connections.take_all():
            connection.socket.close()

    def _run(self, work: Work, args: tuple[Any, ...]) -> None:
        """The thread."""
        self._begin()
        try:
            work(self, *args)
        except BaseException:
            log.exception("worker %s crashed", self.name)
            try:
                self._close_what_is_mine()
            finally:
                self._end(slots.CRASHED)
        else:
            self._end(slots.GONE)

    def _end(self, state: int) -> None:
        """The thread's last act."""
        with self._ending:
            self._has_ended = True
            if not self._outlived:
                self.block[slots.STATE] = state
                if state == slots.CRASHED:
                    self._main.notice_death()
                return
        self._close_own()
        os.close(self._answers.fd)

    def _close_what_is_mine(self) -> None:
        """A process would leave this to the kernel. An open listener would go on to be given connections."""
        if self.acceptor is not None:
            self.acceptor.close()
        for connection in list(self.loop.connections):
            connection.close("worker_died")
        for connection in self.loop.accepted:
            connection.socket.close()

    def submitted(self) -> Iterator[Job]:
        """Called by the worker."""
        self.block[slots.STATE] = slots.SERVING
        self._job = self.jobs.take(self.index)
        while True:
            if self._job is not None:
                yield self._job
                continue  # with what `reply` has taken
            if self._draining:
                return
            self._idle()
            os.eventfd_read(self._alarm)
            self._busy()
            self._job = self.jobs.take(self.index)

    def reply(self, job: Job, response: Response) -> None:
        """Called by the worker."""
        # First the next job, or idle: whoever has the answer may ask again at once, and finds this worker on the
        # stack of idle ones.
        self._job = self.jobs.take(self.index)
        self._answers.put((job, response))
        self._count_sample(job)


def deliver(answer: tuple[Job, Response]) -> None:
    """Called by main's loop."""
    job, response = answer
    job.connection.reply(job, response)
