"""The kernel's times: of a connection, and of what was received on it."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Sequence

SO_TIMESTAMPNS = SCM_TIMESTAMPNS = 35
ANCILLARY_BYTES = socket.CMSG_SPACE(16)
unpack_timespec = struct.Struct("@ll").unpack
LAST_DATA_SENT = struct.Struct("@44xI")
"""`tcpi_last_data_sent` in `struct tcp_info` (linux/tcp.h): milliseconds."""


def receive(sock: socket.socket, most: int, since_ns: int) -> tuple[bytes, int]:
    """Receive at most `most` bytes, and return when the last of them came: CLOCK_MONOTONIC, in ns.

    Not before `since_ns` (CLOCK_REALTIME): what was before accept() or pick-up is accept_wait's or
    dispatch_wait's. Raises OSError, BlockingIOError when there is nothing. Costs more than `recv`: for samples only.
    """
    data, ancillary, _flags, _address = sock.recvmsg(most, ANCILLARY_BYTES, socket.MSG_DONTWAIT)
    now = time.time_ns()
    waited = kernel_wait_ns(ancillary, now) or 0
    return data, time.monotonic_ns() - max(0, min(waited, now - since_ns))


def kernel_wait_ns(ancillary: Sequence[tuple[int, int, bytes]], now_realtime_ns: int) -> int | None:
    """Return how long ago the last segment that `recvmsg` took arrived; None if the kernel did not say.

    Needs SO_TIMESTAMPNS on the socket, and no other option that sends ancillary data. The kernel's time
    is CLOCK_REALTIME and can be set back in between: never below 0.
    """
    if len(ancillary) != 1 or ancillary[0][1] != SCM_TIMESTAMPNS:
        return None
    seconds, nanoseconds = unpack_timespec(ancillary[0][2])
    waited: int = now_realtime_ns - seconds * 1_000_000_000 - nanoseconds
    return max(0, waited)


def accept_wait_ns(sock: socket.socket) -> int:
    """Return how long an accepted socket lay in the accept queue; to be asked before anything is sent on it.

    `tcpi_last_data_sent` counts from the moment the handshake was complete until data is sent. Its
    neighbours (`last_data_recv`, `last_ack_recv`) restart when the request arrives. Resolution: one
    jiffy (1 to 10 ms). 0 when the peer is gone and the kernel says nothing more.
    """
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, LAST_DATA_SENT.size)
    except OSError:
        return 0
    milliseconds: int = LAST_DATA_SENT.unpack(info)[0]
    return milliseconds * 1_000_000
