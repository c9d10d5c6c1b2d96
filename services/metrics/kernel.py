"""Kernel's figures of a port: queues, drops, half-open connections, closed windows.

sock_diag over netlink, the interface of `ss`, asked and unpacked with `struct`. pyroute2 speaks it too,
but builds an object with all attributes for every socket: 0.6 s of CPU for 2,000 connections where this
takes 17 ms, half of which the kernel spends walking its hash tables. And once that is there, the
listeners need no library either. The kernel filters by local port (`idiag_sport` of the request), so
other sockets cost no message. No privilege is needed.

Sources: linux/inet_diag.h, linux/sock_diag.h, linux/tcp.h; net/ipv4/inet_diag.c for what the fields
mean in each state.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from services.metrics.readings import Cached, Growth

CONNECTIONS_FRESH_SECONDS = 5.0
REPLY_SECONDS = 2.0
RECEIVE_BYTES = 65536

NETCOUNTERS = (
    "ListenOverflows", "ListenDrops", "TCPReqQFullDrop", "TCPReqQFullDoCookies", "SyncookiesSent",
    "SyncookiesRecv", "TCPAbortOnOverflow", "TCPTimeouts", "TCPSynRetrans", "TCPFromZeroWindowAdv",
    "TCPToZeroWindowAdv", "DelayedACKs",
)  # fmt: skip
"""Counters of a whole network namespace: the TcpExt lines of /proc/net/netstat."""

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_DUMP = 0x001, 0x300
NO_COOKIE = 0xFFFFFFFF

ESTABLISHED, SYN_RECV, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING = 1, 3, 4, 5, 8, 9, 10, 11
OPEN_STATES = (ESTABLISHED, SYN_RECV, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING)
"""All but TIME_WAIT, which holds no queue. SYN_RECV brings the request sockets (NEW_SYN_RECV) along."""

INFO, SKMEMINFO = 2, 7
"""Attributes; bit `number - 1` of the request's `idiag_ext` asks for one."""

MESSAGE_HEADER = struct.Struct("=IHHII")
REQUEST = struct.Struct("=BBBxI2s38xII")
"""`struct inet_diag_req_v2`: family, protocol, attributes, states, local port, cookie."""
SOCKET = struct.Struct("=BB2x4x16s16x4xQ4xII4xI")
"""`struct inet_diag_msg`: family, state, local address, cookie, receive queue, send queue, inode."""
ATTRIBUTE_HEADER = struct.Struct("=HH")
DROPS = struct.Struct("=32xI")
"""`sk_drops`, the ninth number of SKMEMINFO."""
WINDOW_LIMITED = struct.Struct("=176xQ")
"""`tcpi_rwnd_limited` in `struct tcp_info`: microseconds."""


@dataclass(frozen=True, slots=True)
class ListenerFigures:
    """A listening socket. `queue` connections wait for `accept()`; it is full above `limit`."""

    inode: int
    cookie: int
    address: str
    queue: int
    limit: int
    drops: int


@dataclass(frozen=True, slots=True)
class ConnectionFigures:
    """All connections of a port; `window_limited_seconds` only grows."""

    receive_queue_bytes: int
    send_queue_bytes: int
    half_open: int
    window_limited_seconds: float


class Socket(NamedTuple):
    """One socket, as the kernel dumps it: the fields of SOCKET, and then the attributes, packed.

    A tuple, since there may be thousands: a frozen dataclass takes four times as long to make.
    """

    family: int
    state: int
    packed_address: bytes
    cookie: int
    receive_queue: int
    send_queue: int
    inode: int
    attributes: memoryview

    @property
    def address(self) -> str:
        """Return the local address, as it stands before the port in a URL."""
        if self.family == socket.AF_INET:
            return socket.inet_ntop(socket.AF_INET, self.packed_address[:4])
        return f"[{socket.inet_ntop(socket.AF_INET6, self.packed_address)}]"

    def attribute(self, wanted: int, layout: struct.Struct) -> int:
        """Return a number inside an attribute; 0 where the kernel did not send it (or an older, shorter one)."""
        at = 0
        while at + ATTRIBUTE_HEADER.size <= len(self.attributes):
            length, kind = ATTRIBUTE_HEADER.unpack_from(self.attributes, at)
            if kind == wanted and length >= ATTRIBUTE_HEADER.size + layout.size:
                number: int = layout.unpack_from(self.attributes, at + ATTRIBUTE_HEADER.size)[0]
                return number
            at += max(_aligned(length), ATTRIBUTE_HEADER.size)
        return 0


def listeners(port: int) -> list[ListenerFigures]:
    """Every socket that listens on `port`, oldest first. Raises OSError when the kernel refuses."""
    found = [
        ListenerFigures(
            inode=sock.inode,
            cookie=sock.cookie,
            address=f"{sock.address}:{port}",
            queue=sock.receive_queue,  # of a listener, these two are not bytes but connections
            limit=sock.send_queue,
            drops=sock.attribute(SKMEMINFO, DROPS),
        )
        for sock in dump(port, (LISTEN,), SKMEMINFO)
    ]
    return sorted(found, key=lambda listener: listener.cookie)


class Connections:
    """The connections of one port, read at most every few seconds: a dump grows with their number."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._window_limited = Growth()
        self._cached = Cached(CONNECTIONS_FRESH_SECONDS, self.read)

    def figures(self) -> ConnectionFigures:
        """Return the figures, at most CONNECTIONS_FRESH_SECONDS old."""
        return self._cached.get()

    def read(self) -> ConnectionFigures:
        """Return the figures now. Raises OSError when the kernel refuses."""
        received = unsent = half_open = 0
        limited: dict[Hashable, int] = {}
        for sock in dump(self._port, OPEN_STATES, INFO):
            if sock.state == SYN_RECV:
                half_open += 1
                continue
            received += sock.receive_queue
            unsent += sock.send_queue
            microseconds = sock.attribute(INFO, WINDOW_LIMITED)
            if microseconds:
                limited[sock.cookie] = microseconds
        return ConnectionFigures(received, unsent, half_open, self._window_limited.add(limited) / 1e6)


def dump(port: int, states: tuple[int, ...], attribute: int) -> Iterator[Socket]:
    """Every TCP socket in one of `states` whose local port is `port`, IPv4 and then IPv6."""
    mask = sum(1 << state for state in states)
    for family in (socket.AF_INET, socket.AF_INET6):
        body = REQUEST.pack(
            family, socket.IPPROTO_TCP, 1 << (attribute - 1), mask, port.to_bytes(2, "big"), NO_COOKIE, NO_COOKIE
        )
        length = MESSAGE_HEADER.size + len(body)
        header = MESSAGE_HEADER.pack(length, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 1, 0)
        for payload in _ask(header + body):
            yield Socket._make((*SOCKET.unpack_from(payload), payload[SOCKET.size :]))


def _ask(request: bytes) -> Iterator[memoryview]:
    """Send a dump request; yield the payload of every message of the response."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_SOCK_DIAG) as diag:
        diag.settimeout(REPLY_SECONDS)
        diag.sendto(request, (0, 0))
        while True:
            data = memoryview(diag.recv(RECEIVE_BYTES))
            at = 0
            while at + MESSAGE_HEADER.size <= len(data):
                length, kind = MESSAGE_HEADER.unpack_from(data, at)[:2]
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    _refused(-struct.unpack_from("=i", data, at + MESSAGE_HEADER.size)[0])
                    return
                yield data[at + MESSAGE_HEADER.size : at + length]
                at += _aligned(length)


def _refused(number: int) -> None:
    # A kernel without IPv6, or without tcp_diag, knows no such sockets: there is nothing to count.
    if number != errno.ENOENT:
        raise OSError(number, f"sock_diag: {os.strerror(number)}")


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def netstat(pid: int) -> dict[str, int]:
    """NETCOUNTERS of the network namespace that `pid` is in. One that this kernel lacks is 0."""
    figures = dict.fromkeys(NETCOUNTERS, 0)
    try:
        lines = Path(f"/proc/{pid}/net/netstat").read_text().splitlines()
    except OSError:  # the process is gone
        return figures
    for names, numbers in zip(lines[::2], lines[1::2], strict=False):
        if names.startswith("TcpExt:"):
            known = zip(names.split()[1:], numbers.split()[1:], strict=False)
            figures.update((name, int(number)) for name, number in known if name in figures)
    return figures


def netstat_scope(pid: int) -> str:
    """Return the scope of the counters that `netstat` reads: "model" in a network namespace of its own, else "host".

    Who made the namespace says so in `LAB_NETNS` (`own` or `host`): inside a container or a sandbox,
    process 1 is in the same namespace, so comparing proves nothing there. Without it, a namespace other
    than that of process 1 is taken for the model's own. When in doubt, "host", which claims less.
    """
    given = os.environ.get("LAB_NETNS")
    if given in ("own", "host"):
        return "model" if given == "own" else "host"
    try:
        return "host" if os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/1/ns/net") else "model"  # noqa: PTH115
    except OSError:  # reading another user's needs privilege
        return "host"
