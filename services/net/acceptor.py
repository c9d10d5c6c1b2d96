"""Ways to wait on a listening socket: they decide which worker a new connection wakes.

A listener shared by several workers has one queue and many waiters, and the way they wait decides who
accepts. Each class here is one way; the `nginx` model offers all of them as `--wakeup`.

The kernel's rules. A socket has a wait queue, a list of those to wake when something happens to it; here an entry is
an epoll that watches the listener, or a thread that sleeps in accept(). When a connection is queued, the kernel walks
the list from its head: it wakes every entry that is not exclusive, and stops after the first exclusive one that it
could wake. Which entry stands at the head, and whether it stays there, is all that the ways differ in. (Shares below:
3 idle processes, 900 connections, one after the other.)

    way                 its entry                           woken                      measured shares
    ------------------  ----------------------------------  -------------------------  ---------------
    herd                EPOLLIN: not exclusive              all
    exclusive           EPOLLIN | EPOLLEXCLUSIVE            one, always the same       796 / 104 / 0
    exclusive-rotating  the same, added again now and then  one, in turn               304 / 304 / 292
    blocking            exclusive, added by every accept()  one, first in, first out   300 / 301 / 299
    mutex               EPOLLIN, of the lock's holder only  the holder

- Why one waiter keeps winning. An entry is made once, by EPOLL_CTL_ADD, and a wake-up does not move it. So the walk
  finds the same one first each time; only while that worker is busy, not waiting in epoll_wait, does the next one get
  something. Which worker that is depends on the order of the list, and so on the kernel and on who came first; that
  it stays the same one does not. This is often called "epoll is LIFO", which is not the rule.
- Re-adding. EPOLL_CTL_DEL and then EPOLL_CTL_ADD make a new entry at the other end of the list, behind all that wait.
  EPOLL_CTL_MOD would not do: it moves nothing, and the kernel refuses it (EINVAL) for an exclusive entry. Once in
  ROTATE_EVERY accepts, since it costs two system calls.
- Blocking accept(). A thread that sleeps in accept() makes its entry anew for each call, at the tail, and so the
  order is first in, first out, with no help. But a thread that sleeps there can do nothing else.
- The herd. All wake, one finds the connection, and the others have run for nothing. The commit that brought
  EPOLLEXCLUSIVE (Linux 4.5) tells of a workload that went from 860 s to 24 s. Much of it cannot be seen from here:
  before epoll_wait returns, the kernel looks once more whether the listener is still readable, and a worker that is
  late goes back to sleep. Measured with 4 workers on 2 cores: 1.35 to 2.0 returns an accept (exclusive: 1.02), but
  4.2 to 4.6 voluntary context switches an accept (exclusive: 1.0 to 1.7). So the wasted wake-ups counted here are a
  lower bound.

Where several wait, one connection is accepted each time epoll reports the listener, as NGINX does
(multi_accept off): a worker that emptied the queue at one go would leave nothing for its neighbours.

EMFILE. When a process has no descriptor left, accept() fails and takes nothing off the queue. The listener stays
readable, so a level-triggered epoll reports it again at once, and the loop would spin at 100 % while its connections,
whose closing is what frees descriptors, get what time is left. So the listener is paused for ACCEPT_PAUSE_SECONDS,
and new connections wait in the kernel's queue meanwhile. Rejected: a spare descriptor that is closed in order to
accept and close the client (libuv's way): it turns a client away who could have waited, and another thread may take
the descriptor first. And going on with a larger backlog: a queue is no remedy for a server that is full. The same
holds for ENFILE, ENOBUFS and ENOMEM (`OUT_OF_RESOURCES`); ECONNABORTED, of a client that went away in the queue, is
counted and nothing more."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
import struct
import threading
import time
from pathlib import Path
from typing import BinaryIO

from services.metrics import slots
from services.net import timestamps
from services.net.connection import Connection
from services.net.event_loop import Source
from services.net.listener import OUT_OF_RESOURCES
from services.net.mailbox import Mailbox
from services.net.server_loop import ServerLoop

ACCEPT_PAUSE_SECONDS = 0.1
ROTATE_EVERY = 16
"""Accepts between two moves to the end of the wait queue (ngx_reorder_accept_events)."""
MUTEX_DELAY_SECONDS = 0.5
"""Longest sleep of a worker without the accept mutex before it tries again (accept_mutex_delay)."""
BLOCKING_ACCEPT_SECONDS = 0.1
MAX_ACCEPTED = 1024

Arrival = tuple[Connection, int] | OSError
"""A connection with its accept_wait in ns, or a failed accept()."""


class Acceptor(Source):
    """Plain EPOLLIN: every worker that waits is woken, one of them finds the connection ("herd")."""

    events = select.EPOLLIN
    accepts_an_iteration = 1

    def __init__(self, loop: ServerLoop, listener: socket.socket) -> None:
        self.loop = loop
        self.listener = listener
        self.fd = listener.fileno()
        self.retry_ns = 0
        loop.at_drain.append(self.finish)
        self.begin()

    def begin(self) -> None:
        """Start to wait for connections."""
        self.loop.watch(self.fd, self, self.events)

    def ready(self, events: int) -> None:  # noqa: ARG002
        """Called by the loop: a connection is queued, or was until a neighbour took it."""
        for number in range(self.accepts_an_iteration):
            try:
                self._accept()
            except BlockingIOError:
                if number == 0:
                    self.loop.block[slots.WASTED_WAKEUPS] += 1
                return
            except OSError as error:
                self._failed(error)
                return

    def _accept(self) -> None:
        """Take one connection off the queue. Raises OSError, BlockingIOError when there is none to take."""
        self._admit(Connection(self.listener.accept()[0], time.time_ns()))

    def _admit(self, connection: Connection, accept_wait_ns: int | None = None) -> None:
        loop = self.loop
        loop.block[slots.ACCEPTED] += 1
        sampler = loop.sampler
        if sampler.connection_gap <= 0:
            if accept_wait_ns is None:
                accept_wait_ns = timestamps.accept_wait_ns(connection.socket)
            sampler.record(("accept_wait", accept_wait_ns, sampler.take_connection()))
        sampler.connection_gap -= 1
        if loop.open_everywhere() + len(loop.accepted) >= loop.limits.max_connections:
            loop.block[slots.CLOSED["max_connections"]] += 1
            connection.socket.close()
        else:
            loop.accepted.append(connection)

    def _failed(self, error: OSError) -> None:
        self._count(error)
        if error.errno in OUT_OF_RESOURCES:
            # The listener stays readable, so epoll would spin: stop listening for a moment instead (EMFILE, above).
            self.pause()
            self.retry_ns = time.monotonic_ns() + int(ACCEPT_PAUSE_SECONDS * 1e9)
            self.loop.call_later(ACCEPT_PAUSE_SECONDS, self.resume)

    def _count(self, error: OSError) -> None:
        name = errno.errorcode.get(error.errno or 0, "other")
        known = name if name in slots.ACCEPT_ERRNOS else "other"
        self.loop.block[slots.ACCEPT_ERRORS[known]] += 1

    def pause(self) -> None:
        """Leave new connections in the kernel's queue."""
        self.loop.pause(self.fd)

    def resume(self) -> None:
        """Wait for connections again."""
        if self.listener.fileno() >= 0:
            self.loop.resume(self.fd, self.events)

    def finish(self) -> bool:
        """Accept what is queued, then close: a closed listener resets what is left in its queue.

        False: no descriptor is free for the next one, but the drain may free some: to be called again.
        """
        while True:
            try:
                self._accept()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno == errno.EINVAL:  # main has ended the listener: `stand_aside`
                    break
                self._count(error)
                if error.errno in OUT_OF_RESOURCES:
                    self.pause()
                    return False
        self.close()
        return True

    def close(self) -> None:
        """Accept no more: this worker's part in the listener is over, and so is the queue if nobody shares it."""
        if self.listener.fileno() >= 0:
            self.loop.forget(self.fd)
            self.listener.close()

    def stand_aside(self) -> None:
        """Take no more from the queue, though the loop is stuck; `close` comes later. Called by main."""


class SoleAcceptor(Acceptor):
    """Nobody else waits for this listener (`nodejs`, `memcached`, `ramcloud`, `reuseport`).

    So the queue is emptied in each iteration, as libuv does, up to a bound that leaves time for the connections.
    """

    accepts_an_iteration = 64

    def stand_aside(self) -> None:
        """End the listener, which nobody else waits for, but keep its descriptor: the loop still watches it."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)


class ExclusiveAcceptor(Acceptor):
    """EPOLLEXCLUSIVE (Linux 4.5): one waiter is woken, and while it keeps up it stays the one."""

    events = select.EPOLLIN | select.EPOLLEXCLUSIVE


class RotatingAcceptor(ExclusiveAcceptor):
    """EPOLLEXCLUSIVE, and the listener is re-added now and then, which sends this worker to the end of
    the wait queue: what NGINX has done since 1.21.6, so that idle workers take turns.
    """

    def begin(self) -> None:
        """Start to wait for connections."""
        super().begin()
        self._until_rotation = 0

    def _accept(self) -> None:
        super()._accept()
        self._until_rotation -= 1
        if self._until_rotation < 0:
            self._until_rotation = ROTATE_EVERY - 1
            self.pause()
            self.resume()


class MutexAcceptor(Acceptor):
    """accept_mutex: only the worker that holds a lock waits for connections.

    An flock, since the kernel takes it back from a holder that dies. As NGINX does, an iteration accepts
    first, gives the lock back, and only then serves, so that another may accept meanwhile; and whoever does not get
    the lock back leaves the listener alone.
    """

    def __init__(self, loop: ServerLoop, listener: socket.socket, lock: Path) -> None:
        self._lock = open_lock(lock)  # by each worker: flock tells open files apart, not processes
        self._holding = False
        super().__init__(loop, listener)

    def begin(self) -> None:
        """Start to compete for the lock."""
        super().begin()
        self.loop.longest_wait_seconds = MUTEX_DELAY_SECONDS
        self.loop.before_poll.append(self._compete)
        self.loop.after_poll.append(self._accept_first)

    def ready(self, events: int) -> None:
        """Called by the loop, when what was queued has been accepted."""

    def _compete(self) -> None:
        if self.listener.fileno() < 0 or time.monotonic_ns() < self.retry_ns:
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.pause()
        else:
            self._holding = True
            super().resume()

    def _accept_first(self, events: list[tuple[int, int]]) -> None:
        """Called by the loop with all that epoll has reported, before any of it is handled."""
        if self._holding:
            if any(fd == self.fd for fd, _ in events):
                super().ready(0)
            self._holding = False
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def resume(self) -> None:
        """Nothing to do: the listener is watched by whoever gets the lock."""

    def close(self) -> None:
        """Close listener and lock."""
        super().close()
        self._lock.close()


def open_lock(path: Path) -> BinaryIO:
    """Open the file of a lock, and make it where there is none. Raises OSError.

    For reading, since a lock needs no more: a file that is there can be locked on a disk that has become read-only.
    """
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600), "rb")


class BlockingAcceptor(Acceptor):
    """A thread that sits in a blocking `accept()`: the kernel wakes such waiters first in, first out.

    The thread only accepts; its loop reads. What a connection then waits for the loop is kernel_wait, as with
    any busy loop. The thread looks up now and then, so that a drain need not interrupt it.
    """

    def begin(self) -> None:
        """Start the thread."""
        self._arrived: Mailbox[Arrival] = Mailbox(self._take_over)
        self.loop.watch(self._arrived.fd, self._arrived)
        self._room = threading.Semaphore(MAX_ACCEPTED)
        self._finished = threading.Event()
        # One open file for all workers: blocking for one is blocking for all. Python's own timeout would
        # use poll(), which wakes every waiter; SO_RCVTIMEO keeps the wait inside accept().
        self.listener.setblocking(True)
        seconds, microseconds = divmod(int(BLOCKING_ACCEPT_SECONDS * 1e6), 1_000_000)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", seconds, microseconds))
        self._thread = threading.Thread(target=self._accept_forever, name="acceptor", daemon=True)
        self._thread.start()

    def _accept_forever(self) -> None:
        """Called by the acceptor thread only."""
        while not self._finished.is_set():
            if not self._room.acquire(timeout=BLOCKING_ACCEPT_SECONDS):
                continue
            try:
                sock, _ = self.listener.accept()
            except BlockingIOError:  # SO_RCVTIMEO is over
                self._room.release()
            except OSError as error:
                self._arrived.put(error)
                time.sleep(ACCEPT_PAUSE_SECONDS)
            else:
                # Asked here, where accept() returns: the loop may be busy for long.
                self._arrived.put((Connection(sock, time.time_ns()), timestamps.accept_wait_ns(sock)))

    def _take_over(self, arrival: Arrival) -> None:
        self._room.release()
        if isinstance(arrival, OSError):
            self._failed(arrival)
        else:
            self._admit(*arrival)

    def pause(self) -> None:
        """Nothing to do: the acceptor thread pauses by itself."""

    def resume(self) -> None:
        """Nothing to do: the acceptor thread resumes by itself."""

    def finish(self) -> bool:
        """Let the thread see that it is over, then accept what is queued and close."""
        self._stop()
        # Still blocking, for SO_RCVTIMEO: O_NONBLOCK would be set for the neighbours' threads, too, which would spin.
        return super().finish()

    def stand_aside(self) -> None:
        """Stop the thread."""
        self._finished.set()
        self._thread.join()

    def close(self) -> None:
        """Stop the thread, and close."""
        self._stop()
        self.listener.close()

    def _stop(self) -> None:
        self._finished.set()
        self._thread.join()
        self._arrived.ready(0)
