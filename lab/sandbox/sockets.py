"""Sockets in a namespace, as the kernel shows them: queues by `ss`, one connection by TCP_INFO, waiters by /proc."""

from __future__ import annotations

import re
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

from lab.peers import owner

if TYPE_CHECKING:
    from lab.sandbox.network import Namespace

TCP_INFO_BYTES = 248
MICROSECONDS = 1_000_000
# Offsets in struct tcp_info, include/uapi/linux/tcp.h. The struct only ever grows at its end.
BYTES_ACKED, BUSY_TIME, RWND_LIMITED, BYTES_SENT, BYTES_RETRANS = 120, 168, 176, 200, 208
U64 = struct.Struct("=Q")
INODE = re.compile(r"\bino:(\d+)")


class Queue(NamedTuple):
    """A listening socket's accept queue."""

    length: int
    limit: int


class Sender(NamedTuple):
    """TCP_INFO of a connection that sends, added up since it began."""

    sent_bytes: int
    """Each byte once, however often it was sent."""
    acknowledged_bytes: int
    busy_seconds: float
    """With something to send."""
    window_limited_seconds: float
    """Of these: when the receiver's window was all that stood in the way."""

    @property
    def in_flight_bytes(self) -> int:
        """Sent and not yet acknowledged."""
        return max(0, self.sent_bytes - self.acknowledged_bytes)


def sender(connection: socket.socket) -> Sender:
    """Return what the kernel says of a connection now."""
    return read_tcp_info(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES))


def read_tcp_info(info: bytes) -> Sender:
    """The part of a struct tcp_info that tells of a sender."""
    acked, busy, limited, sent, again = (
        U64.unpack_from(info, offset)[0] for offset in (BYTES_ACKED, BUSY_TIME, RWND_LIMITED, BYTES_SENT, BYTES_RETRANS)
    )
    return Sender(sent - again, acked, busy / MICROSECONDS, limited / MICROSECONDS)


def accept_queue(side: Namespace, port: int) -> Queue:
    """The accept queue of the socket that listens on `port`. For a listener, `ss` calls them Recv-Q and Send-Q."""
    (line,) = side.run("ss", "-Htln", f"sport = :{port}").splitlines()
    _state, length, limit, *_ = line.split()
    return Queue(int(length), int(limit))


def half_open(side: Namespace, port: int) -> int:
    """Handshakes under way on `port`: what is called the SYN queue."""
    return len(side.run("ss", "-Htn", "state", "syn-recv", f"sport = :{port}").splitlines())


def unread_bytes(side: Namespace, port: int) -> list[int]:
    """Of each connection on `port`: what its receive queue holds, acknowledged and not read, accepted or not."""
    return [queue for queue, _ in _queues(side, port)]


def unsent_bytes(side: Namespace, port: int) -> list[int]:
    """Of each connection on `port`: what its send buffer holds, sent and not acknowledged, or not even sent."""
    return [queue for _, queue in _queues(side, port)]


def _queues(side: Namespace, port: int) -> list[tuple[int, int]]:
    """Recv-Q and Send-Q of each."""
    lines = side.run("ss", "-Htn", "state", "established", f"sport = :{port}").splitlines()
    return [(int(received), int(sent)) for received, sent, *_ in map(str.split, lines)]


def epoll_watchers(side: Namespace, port: int, pids: list[int]) -> int:
    """Count the processes that wait by epoll for the socket that listens on `port`: these the kernel may wake."""
    listeners = {int(inode) for inode in INODE.findall(side.run("ss", "-Htlne", f"sport = :{port}"))}
    return sum(not listeners.isdisjoint(_watched_inodes(pid)) for pid in pids)


def _watched_inodes(pid: int) -> set[int]:
    return {inode for descriptor in owner.epolls(pid) for inode in owner.watched(pid, descriptor)}
