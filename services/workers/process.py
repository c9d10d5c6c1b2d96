"""Workers that are processes: nothing is shared but the counters, and each has its own interpreter.

A connection reaches one as a descriptor (SCM_RIGHTS), a request pickled. Workers are forked from a main
that has started no thread, so a dead one can be replaced in the same way.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from services.messages import Response
from services.metrics import slots
from services.net.acceptor import ACCEPT_PAUSE_SECONDS
from services.net.connection import Connection, Job
from services.net.event_loop import Source
from services.net.mailbox import Channel, read_frame, receive_connection, send_connection, to_frame
from services.workers.worker import Work, Worker

log = logging.getLogger("services")

PR_SET_PDEATHSIG = 1


class ProcessWorker(Worker, Source):
    """A worker in a process of its own. The same object stands in main and, after the fork, in the worker."""

    kind = "process"
    can_be_replaced = True
    patience_ns = 0
    _connections: socket.socket
    _requests: Channel

    def start(self, work: Work, *args: Any) -> None:
        """Called by main."""
        if self.buried:
            # The predecessor's were kept until now, so that no client's connection could take the descriptors.
            self._connections.close()
            self._requests.close()
        # Descriptors travel as datagrams, so that each arrives with its note; requests as a stream, since a
        # body may be larger than any datagram.
        self._connections, connections = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Both ends: `send_fds` and `recv_fds` take flags and, in some versions, drop them.
        self._connections.setblocking(False)
        connections.setblocking(False)
        main_end, worker_end = socket.socketpair()
        self._child = fork_worker(
            lambda: self._run(work, args, connections, worker_end),
            keep=[connections, worker_end, *(arg for arg in args if isinstance(arg, socket.socket))],
        )
        connections.close()
        worker_end.close()
        self._requests = Channel(self._main.loop, main_end, self._answered)
        self.buried = self._drain_ordered = False
        self.jobs.expect(self.index)
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
        self._drain_ordered = True
        self._requests.close()
        self._child.signal(signal.SIGTERM)

    def kill(self) -> None:
        """Called by main."""
        self._child.signal(signal.SIGKILL)

    def close(self) -> None:
        """Called by main."""
        self._connections.close()
        self._requests.close()
        self._child.reap()
        self._count_what_died()  # nothing, unless it was killed when its time to drain was over

    def has_ended(self) -> bool:
        """Called by main."""
        return self._child.has_ended()

    def died(self) -> bool:
        """Called by main."""
        return self.has_ended() and not self.buried and not (self._drain_ordered and self._child.status == 0)

    def how_it_ended(self) -> str:
        """Called by main."""
        return self._child.how_it_ended()

    def _close_what_is_left(self) -> None:
        self._requests.mute()
        self.block[slots.STATE] = slots.GONE

    def _run(self, work: Work, args: tuple[Any, ...], connections: socket.socket, requests: socket.socket) -> None:
        """The worker process."""
        self._connections, self._worker_end = connections, requests
        self.loop = self._make_loop(self.name, self.block)
        signal.signal(signal.SIGTERM, lambda *_: self.loop.order_drain())
        self.loop.watch(connections.fileno(), self)
        self.loop.at_drain.append(self._pick_up_all)
        self._last_descriptor = os.sysconf("SC_OPEN_MAX") - 1
        self._begin()
        work(self, *args)
        self.block[slots.STATE] = slots.GONE

    def ready(self, events: int) -> None:  # noqa: ARG002
        """Called by the worker's loop: a connection was handed off."""
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
        self._count_sample(job)


NOWHERE: Any = None
"""Where a worker process's jobs come from: the connection stayed with main."""


class Child:
    """A forked process, as main sees it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.status: int | None = None
        """As `os.waitpid` gives it; None while the process lives."""

    def has_ended(self) -> bool:
        """Whether it has, without waiting for it."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = status
        return self.status is not None

    def reap(self) -> None:
        """Wait for it; it is ending."""
        if self.status is None:
            self.status = os.waitpid(self.pid, 0)[1]

    def how_it_ended(self) -> str:
        """For the log."""
        code = os.waitstatus_to_exitcode(self.status or 0)
        return f"pid {self.pid}, " + (signal.Signals(-code).name if code < 0 else f"exit code {code}")

    def signal(self, number: int) -> None:
        """Send it a signal, if it lives: after `has_ended` its number may be another's."""
        if not self.has_ended():
            os.kill(self.pid, number)


class Helper:
    """A process beside the workers, which main keeps running: it serves the admin port."""

    def __init__(self, name: str, run: Callable[[], None], keep: list[socket.socket]) -> None:
        self.name = name
        self._run = run
        self._keep = keep
        self.start()

    def start(self) -> None:
        """Called by main, at first and after its death."""
        self.child = fork_worker(self._run, self._keep)
        self.buried = False


def fork_worker(run: Callable[[], None], keep: list[socket.socket]) -> Child:
    """Fork a child that runs `run()` and exits. It ends when main does, however main ends.

    The child closes every descriptor but those to `keep`: a copy of a connection or of a neighbour's
    channel would keep it open after its owner has closed it. Main's objects stay alive in frames that the
    child never returns to, so none of them closes a number a second time.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    main = os.getpid()
    pid = os.fork()
    if pid:
        return Child(pid)
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
    """Close every descriptor of this process that is not in `keep`.

    Gap by gap: listing /proc/self/fd would take a descriptor itself, and there may be none left.
    """
    bounds = [-1, *sorted(keep), os.sysconf("SC_OPEN_MAX")]
    for below, above in pairwise(bounds):
        if below + 1 < above:  # closerange(0, 0) would be close_range(0, -1): all of them
            os.closerange(below + 1, above)


class SpareDescriptors:
    """Descriptors that main holds back, so that a worker can be replaced while clients hold all the others."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._held: list[int] = []
        self._hold()

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Have them free for a moment."""
        self.close()
        try:
            yield
        finally:
            self._hold()

    def close(self) -> None:
        """Hold none any more."""
        while self._held:
            os.close(self._held.pop())

    def _hold(self) -> None:
        with contextlib.suppress(OSError):  # none are left: hold those that there were
            while len(self._held) < self._number:
                self._held.append(os.open(os.devnull, os.O_RDONLY))
