"""Workers that are processes: nothing is shared but the counters, and each has its own interpreter.

A connection reaches one as a descriptor (SCM_RIGHTS), a request pickled. Workers are forked from a main
that has started no thread, so a dead one can be replaced in the same way.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from services.messages import Response
from services.metrics import slots
from services.net.connection import Connection, Job
from services.net.event_loop import Source
from services.net.mailbox import Channel, read_frame, receive_connection, send_connection, to_frame
from services.workers.worker import Work, Worker

log = logging.getLogger("services")

PR_SET_PDEATHSIG = 1


class ProcessWorker(Worker, Source):
    """A worker in a process of its own. The same object stands in main and, after the fork, in the worker."""

    kind = "process"

    def start(self, work: Work, *args: Any) -> None:
        """Called by main."""
        # Descriptors travel as datagrams, so that each arrives with its note; requests as a stream, since a
        # body may be larger than any datagram.
        self._connections, connections = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Both ends: `send_fds` and `recv_fds` take flags and, in some versions, drop them.
        self._connections.setblocking(False)
        connections.setblocking(False)
        main_end, worker_end = socket.socketpair()
        self._job: Job | None = None
        self.pid = fork_worker(
            lambda: self._run(work, args, connections, worker_end),
            keep=[connections, worker_end, *(arg for arg in args if isinstance(arg, socket.socket))],
        )
        connections.close()
        worker_end.close()
        self._requests = Channel(self._main.loop, main_end, self._answered)
        self._status: int | None = None
        self.buried = False
        self.wake()  # it is idle, or has inherited a queue

    def _send(self, connection: Connection) -> bool:
        sent = send_connection(self._connections, connection.socket, connection.arrived_ns, connection.handed_off_ns)
        if sent:
            connection.socket.close()  # the worker has its own descriptor now
        return sent

    def wake(self) -> None:
        """Called by main."""
        job = self.jobs.take(self.index)
        if job is not None:
            self._job = job
            self._requests.send((job.message, job.weight, job.submitted_ns))

    def _answered(self, answer: tuple[Response, int]) -> None:
        """Called by main's loop."""
        job, self._job = self._job, None
        if job is not None:
            response, job.ready_ns = answer
            job.connection.reply(job, response)
            self.wake()

    def order_drain(self) -> None:
        """Called by main."""
        self._requests.close()
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Called by main."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if not self.has_ended():
            os.kill(self.pid, number)

    def has_ended(self) -> bool:
        """Called by main."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = status
        return self._status is not None

    def bury(self) -> list[Job]:
        """The worker died: fail what it had begun, give back what it had not. Called by main."""
        self.buried = True
        self._requests.close()
        self._connections.close()
        block = self.block
        block[slots.CLOSED["worker_died"]] += block[slots.OPEN]
        block[slots.OPEN] = 0
        block[slots.PICKED_UP] = block[slots.HANDED_OFF]
        block[slots.BUSY_SINCE] = 0
        block[slots.STATE] = slots.GONE
        if self._job is not None:
            self._job.connection.close("worker_died")
        return self.jobs.lose(self.index)

    def _run(self, work: Work, args: tuple[Any, ...], connections: socket.socket, requests: socket.socket) -> None:
        """The worker process."""
        self._connections, self._worker_end = connections, requests
        self.loop = self._make_loop(self.name, self.block)
        signal.signal(signal.SIGTERM, lambda *_: self.loop.order_drain())
        self.loop.watch(connections.fileno(), self)
        self.loop.at_drain.append(self._pick_up_all)
        self._begin()
        work(self, *args)
        self.block[slots.STATE] = slots.GONE

    def ready(self, events: int) -> None:  # noqa: ARG002
        """Called by the worker's loop: a connection was handed off."""
        self._receive_one()

    def _receive_one(self) -> bool:
        received = receive_connection(self._connections)
        if received is None:
            return False
        sock, arrived_ns, handed_off_ns = received
        self._pick_up(Connection(sock, arrived_ns, handed_off_ns))
        return True

    def _pick_up_all(self) -> None:
        while self._receive_one():
            pass
        self.loop.forget(self._connections.fileno())

    def submitted(self) -> Iterator[Job]:
        """Called by the worker. Main closes the channel when it has no more requests."""
        self.block[slots.STATE] = slots.SERVING
        while True:
            self._idle()
            try:
                message, weight, submitted_ns = read_frame(self._worker_end)
            except (EOFError, ConnectionError):
                return
            self._busy()
            yield Job(NOWHERE, message, weight, submitted_ns)

    def reply(self, job: Job, response: Response) -> None:
        """Called by the worker."""
        with contextlib.suppress(ConnectionError):  # main has closed the channel: its drain is over
            self._worker_end.sendall(to_frame((response, job.ready_ns)))


NOWHERE: Any = None
"""Where a worker process's jobs come from: the connection stayed with main."""


def fork_worker(run: Callable[[], None], keep: list[socket.socket]) -> int:
    """Fork a child that runs `run()` and exits; its pid. It ends when main does, however main ends.

    The child closes every descriptor but those to `keep`: a copy of a connection or of a neighbour's
    channel would keep it open after its owner has closed it. Main's objects stay alive in frames that the
    child never returns to, so none of them closes a number a second time.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    main = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        end_with_parent(main)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; main tells us what to do
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        close_all_but({0, 1, 2, *(sock.fileno() for sock in keep)})
        run()
        status = 0
    except BaseException:
        log.exception("process %d (of main %d) crashed", os.getpid(), main)
    finally:
        logging.shutdown()
        os._exit(status)


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies.

    A pipe's end of file would reach a worker only when it returns to its loop; a worker that is stuck in
    a handler would keep the port.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)


def close_all_but(keep: set[int]) -> None:
    """Close every descriptor of this process that is not in `keep`."""
    for descriptor in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        if descriptor not in keep:
            try:
                os.close(descriptor)
            except OSError:
                continue  # the one that listed the folder
