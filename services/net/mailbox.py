"""Ways for threads and processes to send to a loop: a mailbox in one process, a channel between two.

Both are bounded, and both are sources: the loop wakes when something has come.
"""

from __future__ import annotations

import errno
import os
import pickle
import select
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from services.net.event_loop import EventLoop, Source, Wakeup

Item = TypeVar("Item")

FRAME = struct.Struct("!Q")
DESCRIPTOR_NOTE = struct.Struct("!QQ")
"""Sent with a handed-off descriptor: when it was accepted (realtime ns) and handed off (monotonic ns)."""
CHANNEL_READ_BYTES = 1 << 18


class Mailbox(Wakeup, Generic[Item]):
    """A queue into a loop of the same process. `put` from any thread; all else on the loop's."""

    def __init__(self, receive: Callable[[Item], None], limit: int = sys.maxsize) -> None:
        super().__init__()
        self._receive = receive
        self._limit = limit
        self._items: deque[Item] = deque()

    def put(self, item: Item) -> bool:
        """Queue the item and wake the loop; return False when the mailbox is full."""
        if len(self._items) >= self._limit:
            return False
        self._items.append(item)
        if not self._is_set:
            self.wake()
        return True

    def ready(self, events: int) -> None:
        """Called by the loop."""
        super().ready(events)
        receive, take = self._receive, self._items.popleft
        for _ in range(len(self._items)):
            receive(take())

    def take_all(self) -> list[Item]:
        """Return what is left in it after its loop has ended."""
        items = list(self._items)
        self._items.clear()
        return items


def send_connection(channel: socket.socket, sock: socket.socket, arrived_ns: int, handed_off_ns: int) -> bool:
    """Pass a connection's descriptor to another process; False when the channel is full or closed."""
    note = DESCRIPTOR_NOTE.pack(arrived_ns, handed_off_ns)
    try:
        socket.send_fds(channel, [note], [sock.fileno()], socket.MSG_DONTWAIT)
    except OSError:  # EAGAIN: full; ETOOMANYREFS: too many descriptors under way; EPIPE: the worker died
        return False
    return True


def receive_connection(channel: socket.socket) -> tuple[socket.socket, int, int] | None:
    """The next connection passed, with its two times; None when there is none now, or ever again.

    Raises OSError (EMFILE) if one came and there was no descriptor for it: the kernel has closed it.
    The channel must be non-blocking: `recv_fds` takes flags and, up to Python 3.13 at least, drops them.
    """
    try:
        note, descriptors, flags, _address = socket.recv_fds(channel, DESCRIPTOR_NOTE.size, 1)
    except BlockingIOError:
        return None
    if flags & socket.MSG_CTRUNC:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    if not note or not descriptors:
        return None
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, descriptors[0]), *DESCRIPTOR_NOTE.unpack(note)


class Channel(Source):
    """Pickled messages over a stream socket to another process; this end belongs to a loop.

    Never blocks: what the other end does not take waits here. Main has at most one job on the way to a worker, and
    notices about those that await there: two for each of their connections.
    """

    def __init__(self, loop: EventLoop, sock: socket.socket, receive: Callable[[Any], None]) -> None:
        self._loop = loop
        self._socket = sock
        self._receive = receive
        self._incoming = bytearray()
        self._outgoing = memoryview(b"")
        self._blocked = False
        self.is_stopped = False
        """The other end is closed, or dead."""
        loop.watch(sock.fileno(), self)

    def send(self, message: object) -> None:
        """Send what the kernel takes now, and what is left when it takes more."""
        self._outgoing = memoryview(bytes(self._outgoing) + to_frame(message))
        self._send_on()

    def ready(self, events: int) -> None:
        """Called by the loop."""
        if events & select.EPOLLOUT:
            self._send_on()
        if events & ~select.EPOLLOUT:
            self._read()

    def close(self) -> None:
        """The other end reads the end of file."""
        if self._socket.fileno() >= 0:
            self._loop.forget(self._socket.fileno())
            self._socket.close()

    def stop(self) -> None:
        """Receive and send no more, since the other end is dead, but hold the descriptor until `close`."""
        self.is_stopped = True
        if self._socket.fileno() >= 0:
            self._loop.pause(self._socket.fileno())

    def _send_on(self) -> None:
        try:
            while self._outgoing:
                self._outgoing = self._outgoing[self._socket.send(self._outgoing, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            self._set_blocked(True)
        except OSError:  # the worker died: main learns of it by SIGCHLD
            self.stop()
        else:
            self._set_blocked(False)

    def _set_blocked(self, blocked: bool) -> None:
        if blocked != self._blocked:
            self._blocked = blocked
            self._loop.change(self._socket.fileno(), select.EPOLLIN | (select.EPOLLOUT if blocked else 0))

    def _read(self) -> None:
        try:
            data = self._socket.recv(CHANNEL_READ_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.stop()
            return
        self._incoming += data
        while len(self._incoming) >= FRAME.size:
            end = FRAME.size + FRAME.unpack_from(self._incoming)[0]
            if len(self._incoming) < end:
                return
            message = pickle.loads(memoryview(self._incoming)[FRAME.size : end])
            self._incoming = self._incoming[end:]
            self._receive(message)


def to_frame(message: object) -> bytes:
    """The message pickled, behind its length."""
    text = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return FRAME.pack(len(text)) + text


def read_frame(sock: socket.socket) -> Any:
    """Wait for one message: for a worker, which has nothing else to do. EOFError when main has closed."""
    return pickle.loads(_read_exactly(sock, FRAME.unpack(_read_exactly(sock, FRAME.size))[0]))


def _read_exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = sock.recv(min(size - len(data), CHANNEL_READ_BYTES))
        if not part:
            raise EOFError
        data += part
    return bytes(data)
