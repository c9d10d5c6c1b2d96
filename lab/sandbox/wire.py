"""Packets on the wire, and packets that no client would send: by packet and raw sockets, in the sandbox only.

`capturing` shows every TCP segment on an interface with the kernel's time. A `Ghost` is a client without a kernel: it
sends segments of its own making from an address that nobody has, so it can leave a handshake half done. Its answers
are routed to the client's namespace, which drops them: the address is not its own, so no RST spoils the picture.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import dpkt

from lab.sandbox.network import NetworkError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.sandbox.network import Namespace

ETH_P_ALL = 3
SO_TIMESTAMPNS = 35
TIMESPEC = struct.Struct("qq")
CAPTURE_BYTES = 256
"""Enough for every header; the payload's length stands in the IP header."""
POLL_MILLISECONDS = 20
CAPTURED_SECONDS = 5.0
LAST_SEGMENTS = 5
GHOST_NETWORK = "10.99.0.0/16"
GHOST_WINDOW = 64_000
FLAGS = ((dpkt.tcp.TH_SYN, "SYN"), (dpkt.tcp.TH_FIN, "FIN"), (dpkt.tcp.TH_RST, "RST"), (dpkt.tcp.TH_ACK, "ACK"))


class Segment(NamedTuple):
    """A TCP segment as it passed."""

    seconds: float
    """CLOCK_REALTIME."""
    source: tuple[str, int]
    destination: tuple[str, int]
    flags: str
    """`SYN`, `SYN/ACK`, `ACK`, `RST`, …; PSH is not told."""
    sequence: int
    acknowledges: int
    window: int
    """As it stands in the header, not scaled. 0 is 0 either way."""
    payload_bytes: int


def read_segment(frame: bytes, seconds: float) -> Segment | None:
    """The TCP segment in an Ethernet frame, which may be cut off after the headers; None for all else."""
    try:
        packet = dpkt.ethernet.Ethernet(frame).data
    except dpkt.UnpackError:
        return None
    if not isinstance(packet, dpkt.ip.IP) or not isinstance(packet.data, dpkt.tcp.TCP):
        return None
    tcp = packet.data
    return Segment(
        seconds,
        (socket.inet_ntoa(packet.src), tcp.sport),
        (socket.inet_ntoa(packet.dst), tcp.dport),
        "/".join(name for bit, name in FLAGS if tcp.flags & bit),
        tcp.seq,
        tcp.ack,
        tcp.win,
        packet.len - packet.hl * 4 - tcp.off * 4,
    )


@dataclass(slots=True)
class Capture:
    """Segments in the order in which they passed."""

    segments: list[Segment] = field(default_factory=list)

    def wait_for(self, what: str, matches: Callable[[Segment], bool]) -> Segment:
        """The first segment that matches, which may still be on its way to us. Raises NetworkError."""
        deadline = time.monotonic() + CAPTURED_SECONDS
        while time.monotonic() < deadline:
            for segment in list(self.segments):
                if matches(segment):
                    return segment
            time.sleep(POLL_MILLISECONDS / 1000)
        flags = ", ".join(segment.flags for segment in self.segments[-LAST_SEGMENTS:]) or "nothing"
        raise NetworkError(f"no {what} was captured within {CAPTURED_SECONDS:.0f} s; what passed last: {flags}")

    def between(self, client: tuple[str, int], server: tuple[str, int]) -> list[Segment]:
        """Those of one connection, both ways."""
        ends = {client, server}
        return [segment for segment in list(self.segments) if {segment.source, segment.destination} == ends]


@contextlib.contextmanager
def capturing(side: Namespace, interface: str) -> Iterator[Capture]:
    """Meanwhile every TCP segment on an interface, in and out. The last ones are there after the end."""
    capture = Capture()
    stop = threading.Event()
    with side.entered():
        listening = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    with listening:
        listening.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        listening.bind((interface, ETH_P_ALL))
        thread = threading.Thread(target=_follow, args=(listening, capture, stop), name="capture")
        thread.start()
        try:
            yield capture
        finally:
            stop.set()
            thread.join()


def _follow(listening: socket.socket, capture: Capture, stop: threading.Event) -> None:
    """Until `stop`, and then until nothing is left to read."""
    poll = select.poll()
    poll.register(listening, select.POLLIN)
    while poll.poll(POLL_MILLISECONDS) or not stop.is_set():
        with contextlib.suppress(BlockingIOError):
            frame, ancillary, _, _ = listening.recvmsg(
                CAPTURE_BYTES, socket.CMSG_SPACE(TIMESPEC.size), socket.MSG_DONTWAIT
            )
            seconds, nanoseconds = TIMESPEC.unpack(ancillary[0][2])
            if segment := read_segment(frame, seconds + nanoseconds / 1e9):
                capture.segments.append(segment)


def route_ghosts(server: Namespace, client: Namespace) -> None:
    """Have the server send to addresses of ghosts by way of the client's namespace, so that no ARP is in the way.

    The client must not forward: it has no route to them either, says so by ICMP, and the server then gives up the
    half-open connection at once. New namespaces inherit that setting from the machine's first.
    """
    client.set_sysctls({"net.ipv4.ip_forward": 0})
    server.run("ip", "route", "add", GHOST_NETWORK, "via", client.address)


def ghost_addresses() -> Iterator[str]:
    """Addresses that nobody has, each once."""
    for number in range(257, 65_000):
        yield f"10.99.{number >> 8}.{number & 255}"


@dataclass(slots=True)
class Ghost:
    """A client made of single segments. `sending` is a socket of `ghost_socket`."""

    sending: socket.socket
    address: tuple[str, int]
    server: tuple[str, int]
    sequence: int = 1000

    def syn(self) -> None:
        """Ask for a connection."""
        self._send(dpkt.tcp.TH_SYN, self.sequence, 0)

    def acknowledge(self, answer: Segment) -> None:
        """End the handshake that `answer`, the server's SYN/ACK, goes on with."""
        self._send(dpkt.tcp.TH_ACK, self.sequence + 1, (answer.sequence + 1) % (1 << 32))

    def _send(self, flags: int, sequence: int, acknowledges: int) -> None:
        self.sending.sendto(made_segment(self.address, self.server, flags, sequence, acknowledges), (self.server[0], 0))


def ghost_socket(client: Namespace) -> socket.socket:
    """Return the socket that ghosts send from: it takes whole IP packets."""
    return client.socket(socket.SOCK_RAW, protocol=socket.IPPROTO_RAW)


def made_segment(
    source: tuple[str, int], destination: tuple[str, int], flags: int, sequence: int, acknowledges: int
) -> bytes:
    """An IP packet with a TCP segment that carries no data; dpkt fills in the checksums."""
    tcp = dpkt.tcp.TCP(
        sport=source[1], dport=destination[1], seq=sequence, ack=acknowledges, flags=flags, win=GHOST_WINDOW
    )
    packet = dpkt.ip.IP(
        src=socket.inet_aton(source[0]), dst=socket.inet_aton(destination[0]), p=dpkt.ip.IP_PROTO_TCP, ttl=64, data=tcp
    )
    packet.len = len(packet)
    return bytes(packet)


def retry_steps(linear_timeouts: int, most_seconds: float) -> list[float]:
    """Seconds after the first SYN at which it is sent again, up to `most_seconds`.

    The timeout begins at 1 s and is doubled each time that one passes, save the first
    `net.ipv4.tcp_syn_linear_timeouts` times; SYN/ACKs know no such exception.
    Source: tcp_timer.c, tcp_retransmit_timer; ip-sysctl, tcp_syn_linear_timeouts.
    """
    steps, when, timeout = [], 0.0, 1.0
    for number in range(1, 100):
        when += timeout
        if when > most_seconds:
            break
        steps.append(when)
        if number > linear_timeouts:
            timeout *= 2
    return steps
