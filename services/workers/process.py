"""Workers that are processes: nothing is shared but the counters, and each has its own interpreter.

A connection reaches one as a descriptor (SCM_RIGHTS), a request pickled. Descriptors travel as datagrams, so that each
arrives with its note; requests as a stream, since a body may be larger than any datagram.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
from collections.abc import Iterator
from typing import Any

from services.messages import Response
from services.metrics import slots
from services.net.acceptor import ACCEPT_PAUSE_SECONDS
from services.net.connection import Connection
from services.net.event_loop import Source
from services.net.job import Job
from services.net.mailbox import Channel, read_frame, receive_connection, send_connection, to_frame
from services.net.server_loop import ServerLoop
from services.workers.fork import Child, fork_worker
from services.workers.handle import Handle
from services.workers.server import CannotServeError, Settings
from services.workers.worker import Work, Worker

CANNOT_SERVE = 2
"""Exit status of a worker that need not be replaced."""
NOWHERE: Any = None
"""Connection of a job in a worker process: the real one stayed with main."""


class ProcessHandle(Handle):
    """Main's end of a worker in a process of its own."""

    kind = "process"
    patience_ns = 0
    _child: Child | None = None
    _connections: socket.socket
    _requests: Channel
    _begun: Job | None = None

    def _launch(self, work: Work, args: tuple[Any, ...]) -> None:
        self._connections, connections = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Both ends: `send_fds` and `recv_fds` take flags and, in some versions, drop them.
        self._connections.setblocking(False)
        connections.setblocking(False)
        main_end, worker_end = socket.socketpair()

        def run() -> None:
            try:
                loop = self._make_loop(self.name, self.block)
            except CannotServeError as error:
                sys.stderr.write(f"{error}\n")
                os._exit(CANNOT_SERVE)
            ProcessWorker(self.index, self._settings, loop, connections, worker_end).run(work, args)

        sockets = [connections, worker_end, *(arg for arg in args if isinstance(arg, socket.socket))]
        self._child = fork_worker(run, keep=sockets)
        connections.close()
        worker_end.close()
        self._requests = Channel(self._loop, main_end, self._receive)
        self.wake()  # it is idle, or has inherited a queue

    def _send(self, connection: Connection) -> bool:
        sent = send_connection(self._connections, connection.socket, connection.arrived_ns, connection.handed_off_ns)
        if sent:
            connection.socket.close()  # the worker has its own descriptor now
        return sent

    def _is_gone(self) -> bool:
        channel = select.poll()
        channel.register(self._connections, 0)
        return any(events & select.POLLHUP for _, events in channel.poll(0))

    def wake(self) -> None:
        """Send the worker its next job."""
        job = self._jobs.take(self.index)
        if job is not None:
            self._begun = job
            self._requests.send((job.message, job.weight, job.submitted_ns))

    def _receive(self, ready: tuple[Response, int]) -> None:
        """Give the response to its connection, and the worker its next job. Called by main's loop."""
        job = self._take_begun()
        if job is not None:
            response, job.ready_ns = ready
            job.connection.reply(job, response)
            self.wake()

    def _take_begun(self) -> Job | None:
        job, self._begun = self._begun, None
        return job

    @property
    def _running(self) -> Child:
        assert self._child is not None, "start() comes first"
        return self._child

    def order_drain(self) -> None:
        """Have it finish what is begun, then end."""
        self._drain_ordered = True
        self._requests.close()
        self._running.signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it now, whatever is begun."""
        if self._child is not None:
            self._child.signal(signal.SIGKILL)

    def has_ended(self) -> bool:
        """Return whether it runs no more."""
        return self._running.has_ended()

    def how_it_ended(self) -> str:
        """Return how, for the log."""
        return self._running.how_it_ended()

    def _ended_well(self) -> bool:
        return self._running.status == 0

    def cannot_serve(self) -> bool:
        """Return whether it has ended because no worker could serve with these options; it has said why."""
        return self.has_ended() and os.waitstatus_to_exitcode(self._running.status or 0) == CANNOT_SERVE

    def close(self) -> None:
        """Give back what it held; it has been sent a signal to end."""
        self._close_ends()
        self._running.wait()
        self._count_what_died()  # nothing, unless it was killed when its time to drain was over

    def _close_ends(self) -> None:
        if self._child is not None:
            self._connections.close()
            self._requests.close()

    def _receive_what_is_left(self) -> None:
        self._requests.stop()
        self.block[slots.STATE] = slots.GONE


class ProcessWorker(Worker, Source):
    """Own end of a worker in a process of its own."""

    def __init__(
        self, index: int, settings: Settings, loop: ServerLoop, connections: socket.socket, requests: socket.socket
    ) -> None:
        super().__init__(index, settings, loop)
        self._connections = connections
        self._requests = requests
        self._last_descriptor = os.sysconf("SC_OPEN_MAX") - 1

    def run(self, work: Work, args: tuple[Any, ...]) -> None:
        """Do the work: all that the process is for."""
        signal.signal(signal.SIGTERM, lambda *_: self.loop.order_drain())
        self.loop.watch(self._connections.fileno(), self)
        self.loop.at_drain.append(self._pick_up_all)
        self._begin()
        work(self, *args)
        self.block[slots.STATE] = slots.GONE

    def ready(self, events: int) -> None:  # noqa: ARG002
        """Pick up a connection that was handed off. Called by the loop."""
        self._receive_one()

    def _receive_one(self) -> bool:
        """Pick up one connection; False when there is none."""
        try:
            received = receive_connection(self._connections)
        except OSError:  # it is lost, and was closed by the kernel
            self.block[slots.ACCEPT_ERRORS["EMFILE"]] += 1
            self.block[slots.PICKED_UP] += 1
            self.block[slots.CLOSED["error"]] += 1
            self._pause()
            return True
        if received is None:
            return False
        sock, arrived_ns, handed_off_ns = received
        self._pick_up(Connection(sock, arrived_ns, handed_off_ns))
        if sock.fileno() >= self._last_descriptor:
            self._pause()
        return True

    def _pause(self) -> None:
        """Leave the next connections in the channel: their descriptors would find no room here, and be lost.

        The kernel gives out the lowest free number, so when it gives the last one, all the others are taken.
        """
        if not self.loop.draining:
            self.loop.pause(self._connections.fileno())
            self.loop.call_later(ACCEPT_PAUSE_SECONDS, self._resume)

    def _resume(self) -> None:
        try:
            os.close(os.dup(self._connections.fileno()))
        except OSError:
            self.block[slots.ACCEPT_ERRORS["EMFILE"]] += 1
            self._pause()
        else:
            if not self.loop.draining:
                self.loop.resume(self._connections.fileno(), select.EPOLLIN)

    def _pick_up_all(self) -> None:
        while self._receive_one():
            pass
        self.loop.forget(self._connections.fileno())

    def submitted(self) -> Iterator[Job]:
        """Yield each request that main sends. Main closes the channel when it has no more of them."""
        self.block[slots.STATE] = slots.SERVING
        while True:
            slots.end_busy(self.block)
            try:
                message, weight, submitted_ns = read_frame(self._requests)
            except (EOFError, ConnectionError):
                return
            slots.begin_busy(self.block)
            yield Job(NOWHERE, message, weight, submitted_ns)

    def reply(self, job: Job, response: Response) -> None:
        """Send the response to main."""
        with contextlib.suppress(ConnectionError):  # main has closed the channel: its drain is over
            self._requests.sendall(to_frame((response, job.ready_ns)))
        self._count_sample(job)
