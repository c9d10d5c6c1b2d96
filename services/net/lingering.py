"""Closing in stages, so that the end of a response is not lost.

RST on close. close() on a socket with unread bytes, or that gets bytes afterwards, makes the kernel send RST. RST makes
our kernel throw away what is still in the send buffer, and the peer's (not Linux's) what has arrived and was not read:
the end of a response is lost because a blank line came behind the request. So a connection says that no more comes
(shutdown), reads on and throws away until the peer closes too, and only then closes (RFC 9112, section 9.6; nginx's
lingering_close). Acknowledgements are a sign of life: while the send buffer is not empty (SIOCOUTQ), there is no limit
but that of writing.

Real nginx lingers only if input has come by the time it closes; what comes later resets there, too. It costs two system
calls a connection, of some thirty, to be safe always.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import termios

LINGER_NS = 30_000_000_000
"""All in all, of a peer that goes on sending."""
SILENCE_NS = 5_000_000_000
DRAIN_SILENCE_NS = 1_000_000_000
"""As SILENCE_NS, in a drain: somebody waits for the server to end."""
READ_BYTES = 65536
UNKNOWN = 1 << 62
"""Unsent bytes, until the first deadline: most peers have closed by then, so nobody asks before."""
MOST_READS = 64
"""Reads where there is no time left to wait for the peer."""


class Linger:
    """A socket on its way to be closed. Times are monotonic ns."""

    __slots__ = ("_ends_ns", "_socket", "_stalled_ns", "_unsent_bytes", "reason")

    def __init__(self, sock: socket.socket, reason: str, now_ns: int) -> None:
        """Say that no more comes. `reason` is one of `slots.CLOSE_REASONS`."""
        self._socket = sock
        self.reason = reason
        self._ends_ns = now_ns + LINGER_NS
        self._unsent_bytes = UNKNOWN
        self._stalled_ns = now_ns
        """Time at which they last became fewer."""
        try:  # noqa: SIM105  # a connection a request: `suppress` would cost more than the system call
            sock.shutdown(socket.SHUT_WR)
        except OSError:  # the peer is gone: reading says so
            pass

    def deadline_ns(self, now_ns: int, *, draining: bool) -> int:
        """Return until when the peer may be silent, now that something has come or the wait begins."""
        return min(now_ns + (DRAIN_SILENCE_NS if draining else SILENCE_NS), max(now_ns, self._ends_ns))

    def read(self) -> bool:
        """Read and throw away; return whether the peer has closed, too."""
        try:
            return not self._socket.recv(READ_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def read_all(self) -> None:
        """Read and throw away what has come by now."""
        for _ in range(MOST_READS):
            try:
                if not self._socket.recv(READ_BYTES, socket.MSG_DONTWAIT):
                    return
            except OSError:
                return

    def reason_to_end(self, now_ns: int, write_timeout_ns: int) -> str | None:
        """Return why to close now that the deadline has passed; None: the peer is still taking what was sent."""
        unsent = unsent_bytes(self._socket)
        if not unsent:
            return self.reason
        if unsent < self._unsent_bytes:
            self._unsent_bytes, self._stalled_ns = unsent, now_ns
        return "write_timeout" if now_ns - self._stalled_ns > write_timeout_ns else None


def unsent_bytes(sock: socket.socket) -> int:
    """Return how many bytes the peer has not acknowledged yet (SIOCOUTQ)."""
    return int(struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0\0\0\0"))[0])
