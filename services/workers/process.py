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
from collections import deque
from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Any

from services.messages import Later, Message, Response
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
    _awaiting: dict[int, Job]
    """Jobs that it has begun, and whose application awaits something, by the worker's own numbers."""

    def _launch(self, work: Work, args: tuple[Any, ...]) -> None:
        self._connections, connections = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Both ends: `send_fds` and `recv_fds` take flags and, in some versions, drop them.
        self._connections.setblocking(False)
        connections.setblocking(False)
        main_end, worker_end = socket.socketpair()

        def run() -> None:
            try:
                loop = self._make_loop(self.name, self.block)
                ProcessWorker(self.index, self._settings, loop, connections, worker_end).run(work, args)
            except CannotServeError as error:
                sys.stderr.write(f"{error}\n")
                os._exit(CANNOT_SERVE)

        self._awaiting = {}
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

    def _receive(self, ready: tuple[Response, int] | tuple[int, Response | None, int]) -> None:
        """Give the response to its connection, and the worker its next job. Called by main's loop."""
        if len(ready) == 3:
            self._receive_later(*ready)
            return
        job, self._begun = self._begun, None
        if job is not None:
            response, job.ready_ns = ready
            job.connection.reply(job, response)
            self.wake()

    def _receive_later(self, number: int, response: Response | None, ready_ns: int) -> None:
        """Note that the job just begun is to have a response later (None), or give that response to its connection."""
        if response is None:
            job, self._begun = self._begun, None
            if job is not None:
                self._awaiting[number] = job
                job.attend(Elsewhere(self, number))
                self.wake()
        elif (job := self._awaiting.pop(number, None)) is not None:
            job.ready_ns = ready_ns
            job.connection.reply(job, response)

    def note(self, number: int, notice: str) -> None:
        """Send a notice to an execution in the worker: the name of its method."""
        if number in self._awaiting:
            self._requests.send((number, notice))
            if notice == "cancel":
                del self._awaiting[number]

    def _take_begun(self) -> list[Job]:
        begun = [*([self._begun] if self._begun is not None else []), *self._awaiting.values()]
        self._begun = None
        self._awaiting = {}
        return begun

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


class Elsewhere:
    """An execution in a worker process, for main: an `Execution`."""

    def __init__(self, handle: ProcessHandle, number: int) -> None:
        self._handle = handle
        self._number = number

    def end_of_input(self) -> None:
        """Tell the execution that the client has sent its last byte."""
        self._handle.note(self._number, "end_of_input")

    def cancel(self) -> None:
        """Tell the execution that nobody waits for the response."""
        self._handle.note(self._number, "cancel")


class ProcessWorker(Worker, Source):
    """Own end of a worker in a process of its own."""

    def __init__(
        self, index: int, settings: Settings, loop: ServerLoop, connections: socket.socket, requests: socket.socket
    ) -> None:
        super().__init__(index, settings, loop)
        self._connections = connections
        self._requests = requests
        self._arrived: deque[tuple[Message, int, int]] = deque()
        """At most one: main sends the next when the last has been responded to, or awaits."""
        self._awaiting: dict[int, Later] = {}
        self._numbers = count()
        self._last_descriptor = os.sysconf("SC_OPEN_MAX") - 1

    def run(self, work: Work, args: tuple[Any, ...]) -> None:
        """Do the work: all that the process is for."""
        signal.signal(signal.SIGTERM, lambda *_: self.loop.order_drain())
        self.loop.watch(self._connections.fileno(), self)
        self.loop.at_drain.append(self._pick_up_all)
        self._begin()
        self.loop.start()
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
        if self.loop.guest is not None:
            yield from self._submitted_to_loop()
            return
        while True:
            slots.end_busy(self.block)
            try:
                message, weight, submitted_ns = read_frame(self._requests)
            except (EOFError, ConnectionError):
                return
            slots.begin_busy(self.block)
            yield Job(NOWHERE, message, weight, submitted_ns)

    def _submitted_to_loop(self) -> Iterator[Job]:
        channel = Channel(self.loop, self._requests, self._take_from_main)
        # SIGTERM may be sent to the whole group, and main go on submitting for a while.
        self.loop.at_drain.append(lambda: channel.is_stopped)
        self.loop.wait_limits.append(lambda: 0.0 if self._arrived else None)
        while self.loop.run_once():
            while self._arrived:
                yield Job(NOWHERE, *self._arrived.popleft())

    def _take_from_main(self, sent: tuple[Message, int, int] | tuple[int, str]) -> None:
        """Take a request, or a notice about one that awaits. Called by the loop."""
        if len(sent) == 3:
            self._arrived.append(sent)
        elif (later := self._awaiting.get(sent[0])) is not None:
            if sent[1] == "cancel":
                del self._awaiting[sent[0]]
                later.cancel()
            else:
                later.end_of_input()

    def reply(self, job: Job, response: Response | Later) -> None:
        """Send the response to main. If it comes later, say so, and go on with the next request first."""
        if isinstance(response, Response):
            self._send((response, job.ready_ns))
            self._count_sample(job)
            return
        number = next(self._numbers)
        self._awaiting[number] = response
        response.then(partial(self._finish_awaiting, number, job))
        self._send((number, None, 0))

    def _finish_awaiting(self, number: int, job: Job, response: Response) -> None:
        if self._awaiting.pop(number, None) is not None:
            self._finish(job, response)
            self._send((number, response, job.ready_ns))

    def _send(self, message: object) -> None:
        with contextlib.suppress(ConnectionError):  # main has closed the channel: its drain is over
            self._requests.sendall(to_frame(message))
