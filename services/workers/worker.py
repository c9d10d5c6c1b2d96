"""A worker, as a model sees it: main hands it connections or requests, and it serves them.

Thread or process is no model's business; both kinds offer what stands here.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from services.messages import Response
from services.metrics import slots
from services.net.connection import Connection, Execute, Job
from services.workers.party import LoopFactory, Party, Settings

if TYPE_CHECKING:
    from services.workers.jobs import JobQueues
    from services.workers.main import Main

log = logging.getLogger("services")

MAX_HANDED_OFF = 1024
"""Connections that may wait for one worker; more are closed and counted."""

Work = Callable[..., None]
"""A model's function for its workers: it is given the worker, and whatever the model adds."""


class Worker(Party, ABC):
    """One worker. What main calls and what the worker itself calls are marked."""

    kind: str
    can_be_replaced: bool
    patience_ns: int
    """For so long main may go on handling events before it wakes such workers for what it has queued."""

    def __init__(
        self, index: int, block: slots.Block, settings: Settings, make_loop: LoopFactory, main: Main, jobs: JobQueues
    ) -> None:
        super().__init__(str(index), block, settings)
        self.index = index
        self.jobs = jobs
        self.buried = False
        """Main has dealt with its death; false again once there is a successor."""
        self._job: Job | None = None
        """The request that it executes now."""
        self._main = main
        self._make_loop = make_loop

    # Called by main.

    def hand_off(self, connection: Connection) -> None:
        """Give the connection to this worker for life. Called by main."""
        connection.handed_off_ns = time.monotonic_ns()
        self.block[slots.HANDED_OFF] += 1
        serving = self.is_serving
        if not serving or not self._send(connection):
            self.block[slots.HANDED_OFF] -= 1
            self._main.block[slots.CLOSED["queue_full" if serving else "worker_died"]] += 1
            connection.socket.close()

    @property
    def is_serving(self) -> bool:
        """Not while it is starting, draining or dead. Called by main."""
        return self.block[slots.STATE] == slots.SERVING

    @property
    def connections(self) -> int:
        """Connections it holds or is about to get. Called by main."""
        return self.block[slots.OPEN] + self.block[slots.HANDED_OFF] - self.block[slots.PICKED_UP]

    @abstractmethod
    def start(self, work: Work, *args: Any) -> None:
        """Begin to run `work(self, *args)`. Called by main."""

    @abstractmethod
    def wake(self) -> None:
        """A job is queued for this worker, which was idle. Called by main."""

    @abstractmethod
    def order_drain(self) -> None:
        """Finish what is begun, then end. Called by main."""

    @abstractmethod
    def has_ended(self) -> bool:
        """Called by main."""

    @abstractmethod
    def died(self) -> bool:
        """It has ended and should not have, and is not buried. Called by main."""

    @abstractmethod
    def how_it_ended(self) -> str:
        """For the log. Called by main."""

    @abstractmethod
    def kill(self) -> None:
        """End now, whatever is begun. Called by main."""

    @abstractmethod
    def close(self) -> None:
        """It has ended for good: give back what it held. Called by main."""

    def bury(self) -> list[Job]:
        """The worker died: count what died with it, fail what it had begun, give back the rest. Called by main."""
        self.buried = True
        self._close_what_is_left()
        self._count_what_died()
        if self._job is not None:
            self._job.connection.close("worker_died")
            self._job = None
        return self.jobs.lose(self.index)

    def _count_what_died(self) -> None:
        """Whatever was accepted by this worker or handed to it, and by whom it was not closed, dies with it.

        Wherever it is just now: counted like this, no moment is missed.
        """
        block = self.block
        received = block[slots.ACCEPTED] + block[slots.HANDED_OFF]
        block[slots.CLOSED["worker_died"]] += received - sum(block[slot] for slot in slots.CLOSED.values())
        block[slots.PICKED_UP] = block[slots.HANDED_OFF]
        block[slots.OPEN] = 0
        self._idle()

    @abstractmethod
    def _close_what_is_left(self) -> None: ...

    @abstractmethod
    def _send(self, connection: Connection) -> bool: ...

    # Called by the worker.

    def accept(self, listener: socket.socket, wakeup: str = "alone") -> Iterator[Connection]:
        """Yield connections as they are accepted, running the loop meanwhile; ends after a drain."""
        connections = super().accept(listener, wakeup)
        self.block[slots.STATE] = slots.SERVING
        return connections

    def serve(self, connection: Connection, execute: Execute | None = None) -> None:
        """Read, parse, execute (or let `execute` do it) and write, for as long as the connection lives."""
        super().serve(connection, execute)
        if connection.handed_off_ns:  # only now that it counts as open: it must not be missing from both
            self.block[slots.PICKED_UP] += 1

    def handed_off(self) -> Iterator[Connection]:
        """Yield each connection handed to this worker, running the loop meanwhile; ends after a drain."""
        self.block[slots.STATE] = slots.SERVING
        return self.loop.accepting()

    @abstractmethod
    def submitted(self) -> Iterator[Job]:
        """Yield each request submitted to this worker; ends after a drain."""

    def execute(self, job: Job) -> Response:
        """Answer the request; times it if it is a sample."""
        loop = self.loop
        if not job.weight:
            response = loop.handle(job.message)
        else:
            started = time.monotonic_ns()
            response = loop.handle(job.message)
            job.ready_ns = time.monotonic_ns()
            loop.sampler.record(("dispatch_wait", started - job.submitted_ns, job.weight))
            loop.sampler.record(("service", job.ready_ns - started, job.weight))
        if response.code:  # empty: a part of a reply
            self.block[slots.REQUESTS[response.code]] += 1
        return response

    @abstractmethod
    def reply(self, job: Job, response: Response) -> None:
        """Send the response to whoever submitted the request."""

    def _count_sample(self, job: Job) -> None:
        """No loop turns here that would count what `execute` noted; once the answer is sent, nobody waits for it."""
        if job.weight:
            self.loop.sampler.publish()

    def _pick_up(self, connection: Connection) -> None:
        """A connection has arrived in this worker's loop."""
        sampler = self.loop.sampler
        if sampler.connection_gap <= 0:
            waited = time.monotonic_ns() - connection.handed_off_ns
            sampler.record(("dispatch_wait", waited, sampler.take_connection()))
        sampler.connection_gap -= 1
        connection.arrived_ns = time.time_ns()  # what it waited for us is dispatch_wait's, not kernel_wait's
        self.loop.accepted.append(connection)

    def _begin(self) -> None:
        """The worker's first words, in its own thread or process."""
        self.block[slots.PID] = os.getpid()
        self.block[slots.TID] = threading.get_native_id()

    def _busy(self) -> None:
        self.block[slots.BUSY_SINCE] = time.monotonic_ns()

    def _idle(self) -> None:
        since = self.block[slots.BUSY_SINCE]
        if since:
            self.block[slots.BUSY_SINCE] = 0  # first: who reads in between must not see the same time twice
            self.block[slots.BUSY_NS] += time.monotonic_ns() - since
