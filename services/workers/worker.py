"""A worker's own end: the object that a model's function for its workers is given. Main's end is in handle.py.

Thread or process is no model's business; both kinds offer the same. Everything here is called by the worker's own
thread.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

from services.messages import Later, Response
from services.metrics import slots
from services.net.connection import Connection
from services.net.job import Execute, Job
from services.net.server_loop import ServerLoop
from services.workers.server import Server, Settings

Work = Callable[..., None]
"""A model's function for its workers: it is given the worker, and whatever the model adds."""


class Worker(Server, ABC):
    """One worker, as it sees itself."""

    def __init__(self, index: int, settings: Settings, loop: ServerLoop) -> None:
        super().__init__(str(index), settings, loop)
        self.index = index

    def accept(self, listener: socket.socket, wakeup: str = "alone") -> Iterator[Connection]:
        """Yield connections as they are accepted, running the loop meanwhile; ends after a drain."""
        connections = super().accept(listener, wakeup)
        self.block[slots.STATE] = slots.SERVING
        return connections

    def handed_off(self) -> Iterator[Connection]:
        """Yield each connection handed to this worker, running the loop meanwhile; ends after a drain."""
        self.block[slots.STATE] = slots.SERVING
        return self.loop.accepting()

    def serve(self, connection: Connection, execute: Execute | None = None) -> None:
        """Read, parse, execute (or let `execute` do it) and write, for as long as the connection lives."""
        super().serve(connection, execute)
        if connection.handed_off_ns:  # only now that it counts as open: it must not be missing from both
            self.block[slots.PICKED_UP] += 1

    @abstractmethod
    def submitted(self) -> Iterator[Job]:
        """Yield each request submitted to this worker; ends after a drain.

        Where the application has a loop of its own, that runs between two requests and while there is none.
        """

    def execute(self, job: Job) -> Response | Later:
        """Execute the request; times it if it is a sample."""
        loop = self.loop
        if not job.weight:
            response = loop.handle(job.message)
        else:
            started = time.monotonic_ns()
            loop.sampler.record(("dispatch_wait", started - job.submitted_ns, job.weight))
            job.submitted_ns = started
            response = loop.handle(job.message)
            if isinstance(response, Response):
                self._end_service(job)
        if response.code:  # empty: a part of a response, or one that comes later
            self.block[slots.REQUESTS[response.code]] += 1
        return response

    def _end_service(self, job: Job) -> None:
        job.ready_ns = time.monotonic_ns()
        self.loop.sampler.record(("service", job.ready_ns - job.submitted_ns, job.weight))

    @abstractmethod
    def reply(self, job: Job, response: Response | Later) -> None:
        """Send the response to whoever submitted the request. If it comes later, go on with the next request first."""

    def _finish(self, job: Job, response: Response) -> None:
        """Count a response that has come later; each kind of worker sends it in its own way."""
        if job.weight:
            self._end_service(job)
        self.block[slots.REQUESTS[response.code]] += 1

    def _count_sample(self, job: Job) -> None:
        """Count what `execute` noted: no loop runs here that would. The response is sent, so nobody waits for it."""
        if job.weight:
            self.loop.sampler.publish()

    def _pick_up(self, connection: Connection) -> None:
        """Take over a connection that has arrived in this worker's loop."""
        sampler = self.loop.sampler
        if sampler.connection_gap <= 0:
            waited = time.monotonic_ns() - connection.handed_off_ns
            sampler.record(("dispatch_wait", waited, sampler.take_connection()))
        sampler.connection_gap -= 1
        connection.arrived_ns = time.time_ns()  # what it waited for us is dispatch_wait's, not kernel_wait's
        self.loop.accepted.append(connection)

    def _begin(self) -> None:
        """Say which process and thread this is; first in the worker's own."""
        self.block[slots.PID] = os.getpid()
        self.block[slots.TID] = threading.get_native_id()
