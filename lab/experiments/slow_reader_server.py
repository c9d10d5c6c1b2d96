"""A server that does not read: where do the bytes wait, and how does the sender come to know?"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from lab.harness.checks import always, between, every_trial, shown
from lab.harness.experiment import Check, Control, Experiment, Finding
from lab.harness.observation import Arm, Observation, Quantity
from lab.sandbox.sockets import sender, unread_bytes
from lab.sandbox.wire import capturing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.harness.experiment import Results
    from lab.harness.trial import Trial

PORT = 8000
RECEIVE_BUFFER_BYTES = 64 * 1024
"""Asked for; the kernel doubles it, since it also counts what its own packets take."""
SLOW_BYTES_PER_SECOND = 200_000
PIECE_BYTES = 32 * 1024
PACE_SECONDS = 0.01
"""A piece each: 3 MB/s, which a reader that is awake takes easily."""
FILLING_SECONDS = 0.5
"""After it every buffer is full, and all that moves is what the reader takes."""
QUICK_SECONDS, SECONDS = 1.5, 5.0
BODY_BYTES = 1 << 40
"""Announced, never sent in full."""
LEAVE_AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends RST, so the server does not go on reading what is left."""
LIMITED_LEAST = 0.9
UNREAD = "in the receive queue"
TAKEN, READ = "rate taken", "rate read by the server"
LEAST_UNREAD_BYTES = PIECE_BYTES
RATE_TOLERANCE = 0.2

TCP_INFO = "Linux, uapi/linux/tcp.h: tcpi_rwnd_limited, the time in which only the receiver's window held the sender"
WINDOW = "RFC 9293, 3.8.6; Linux, tcp_output.c: tcp_select_window, which counts TCPToZeroWindowAdv"


def trial(trial: Trial) -> Observation:
    """Send at a steady pace to a server that reads, or does not; watch the sender."""
    observation = Observation()
    seconds = QUICK_SECONDS if trial.quick else SECONDS
    with contextlib.ExitStack() as stack:
        capture = stack.enter_context(capturing(trial.client, "client0"))
        address, buffer_bytes, bytes_read = stack.enter_context(READERS[trial.parameter("reader")](trial))
        client = stack.enter_context(trial.connect(address))
        head = (
            f"POST /sink?rate={trial.parameter('rate')} HTTP/1.1\r\nHost: lab\r\nContent-Length: {BODY_BYTES}\r\n\r\n"
        )
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LEAVE_AT_ONCE)
        client.sendall(head.encode())
        client.setblocking(False)
        begun = time.monotonic()
        send_for(FILLING_SECONDS, client, observation, begun)
        before, read_before, since = sender(client), bytes_read(), time.monotonic()
        send_for(seconds, client, observation, begun)
        after, read_after, wall = sender(client), bytes_read(), time.monotonic() - since
        unread = max(unread_bytes(trial.server, address[1]))
        counters = trial.server.counters()
    closed = [
        seen for seen in capture.segments if seen.source == address and not seen.window and "RST" not in seen.flags
    ]
    flights = [value for _, value in observation.series["in flight, B"]]
    observation.notes = [
        f"{seen.seconds - capture.segments[0].seconds:9.4f} s  {seen.flags}, window 0" for seen in closed
    ]
    observation.metrics |= {
        "window limited": Quantity((after.window_limited_seconds - before.window_limited_seconds) / wall),
        "zero windows captured": Quantity(len(closed)),
        "TCPToZeroWindowAdv": Quantity(counters["TCPToZeroWindowAdv"]),
        UNREAD: Quantity(unread, "B"),
        "receive buffer": Quantity(buffer_bytes, "B"),
        "most in flight": Quantity(max(flights), "B"),
        "taken": Quantity(after.acknowledged_bytes, "B"),
        TAKEN: Quantity((after.acknowledged_bytes - before.acknowledged_bytes) / wall, "B/s"),
        READ: Quantity((read_after - read_before) / wall, "B/s"),
    }
    return observation


def send_for(seconds: float, client: socket.socket, observation: Observation, begun: float) -> None:
    """Offer a piece at each tick, and note how far the sender got."""
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        with contextlib.suppress(BlockingIOError):  # the send buffer is full too: the back-pressure has arrived here
            client.send(bytes(PIECE_BYTES))
        state = sender(client)
        observation.series.setdefault("in flight, B", []).append((round(now - begun, 4), state.in_flight_bytes))
        observation.series.setdefault("acknowledged, B", []).append((round(now - begun, 4), state.acknowledged_bytes))
        time.sleep(PACE_SECONDS)


class Reader(NamedTuple):
    """A server that reads, or does not."""

    address: tuple[str, int]
    buffer_bytes: int
    """Largest size of its connection's receive buffer."""
    bytes_read: Callable[[], float]
    """Bytes that it has read so far."""


@contextlib.contextmanager
def asleep(trial: Trial) -> Iterator[Reader]:
    """A server whose thread never comes to read."""
    with listening(trial, RECEIVE_BUFFER_BYTES) as listener:
        yield Reader(listener.getsockname(), listener.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF), lambda: 0)


@contextlib.contextmanager
def awake(trial: Trial) -> Iterator[Reader]:
    """A server that reads what comes."""
    pieces: list[int] = []

    def read() -> None:
        accepted, _ = listener.accept()
        with accepted, contextlib.suppress(ConnectionResetError):
            while piece := accepted.recv(1 << 20):
                pieces.append(len(piece))

    with listening(trial, 0) as listener:
        reader = threading.Thread(target=read, name="reader", daemon=True)
        reader.start()
        buffer_bytes = listener.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        yield Reader(listener.getsockname(), buffer_bytes, lambda: sum(pieces))


@contextlib.contextmanager
def sink(trial: Trial) -> Iterator[Reader]:
    """The arm's model; the kernel may give its connection as much as tcp_rmem says."""
    with trial.serving() as server:
        buffer_bytes = int(trial.arm.sysctls["net.ipv4.tcp_rmem"].split()[2])  # type: ignore[union-attr]
        yield Reader(server.address, buffer_bytes, lambda: server.look().total("lab_bytes_total", direction="in"))


READERS = {"asleep": asleep, "awake": awake, "sink": sink}


@contextlib.contextmanager
def listening(trial: Trial, receive_buffer_bytes: int) -> Iterator[socket.socket]:
    """A listener; accepted connections inherit its receive buffer (0: what the kernel thinks fit)."""
    with trial.server.socket() as listener:
        if receive_buffer_bytes:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        listener.bind((trial.server.address, PORT))
        listener.listen()
        yield listener


def bounded(flight: float, taken: float, buffer: float) -> bool:
    """The buffer bounds what is under way and what is taken in all."""
    return flight <= buffer and taken <= buffer


def one_pace(results: Results) -> Finding:
    """The client sends as fast as the server reads, by the client's kernel and by the server's own count; and that is
    as fast as it was told to read.
    """
    taken, read = (results["slow"].summary(name) for name in (TAKEN, READ))
    text = f"{TAKEN} {shown(taken)}, {READ} {shown(read)}"
    rates = taken["median"], read["median"]
    as_told = all(abs(rate / SLOW_BYTES_PER_SECOND - 1) <= RATE_TOLERANCE for rate in rates)
    return Finding(text, as_told and abs(taken["median"] - read["median"]) <= RATE_TOLERANCE * read["median"])


ASLEEP = Arm("asleep", parameters={"reader": "asleep", "rate": 0})
AWAKE = Arm("asleep", parameters={"reader": "awake", "rate": 0})


def slow(rate: int) -> Arm:
    """One event loop that reads a body at a rate, from a buffer that is not grown."""
    buffer = f"4096 {2 * RECEIVE_BUFFER_BYTES} {2 * RECEIVE_BUFFER_BYTES}"
    return Arm("slow", "nodejs", {}, {"net.ipv4.tcp_rmem": buffer}, {}, {"reader": "sink", "rate": rate})


EXPERIMENT = Experiment(
    name="slow-reader-server",
    chapter="reading and sending",
    question="A client sends, and the server does not read, or reads slowly. Where do the bytes wait, and what holds "
    "the client back?",
    predict=f"The client offers 3 MB/s. The server reads nothing, or {SLOW_BYTES_PER_SECOND // 1000} kB/s. How many "
    "bytes does the server's kernel take? What does it tell the client's, and what does the client notice?",
    arms=(ASLEEP, slow(SLOW_BYTES_PER_SECOND)),
    trial=trial,
    checks=(
        Check(
            "receive-queue-fills",
            "what arrives is taken and acknowledged by the server's kernel, and waits in the receive queue",
            "Linux, ss(8): Recv-Q of an established connection",
            f"Recv-Q at least {LEAST_UNREAD_BYTES:,} B in every trial, though nobody has accepted",
            always("asleep", UNREAD, least=LEAST_UNREAD_BYTES),
            timed=False,
            shows=("R1", "R3"),
        ),
        Check(
            "window-closes",
            "a receiver whose buffer is full tells the sender so: a window of 0",
            WINDOW,
            "TCPToZeroWindowAdv ≥ 1 in every trial",
            always("asleep", "TCPToZeroWindowAdv", least=1),
            timed=False,
            shows=("R1", "R3"),
        ),
        Check(
            "zero-window-captured",
            "the zero window stands in a segment from server to client",
            WINDOW,
            "≥ 1 captured in every trial",
            always("asleep", "zero windows captured", least=1),
            timed=False,
        ),
        Check(
            "sender-is-held",
            "the client is held back by that window and by nothing else",
            TCP_INFO,
            f"Δrwnd_limited / Δwall ≥ {LIMITED_LEAST}",
            between("asleep", "window limited", least=LIMITED_LEAST),
            timed=True,
            shows=("R4",),
        ),
        Check(
            "receive-buffer-bounds",
            "the receive buffer bounds what is under way, and all that a reader who sleeps is sent",
            "Linux, socket(7): SO_RCVBUF",
            "bytes in flight, and bytes taken, ≤ SO_RCVBUF in every trial",
            every_trial("asleep", "most in flight", "taken", "receive buffer", holds=bounded),
            timed=False,
            shows=("R5",),
        ),
        Check(
            "reader-sets-the-pace",
            "once the buffers are full, a slow reader's pace is the client's",
            "flow control: RFC 9293, 3.8.6",
            f"taken by the client's count, read by the server's: {SLOW_BYTES_PER_SECOND:,} B/s ± {RATE_TOLERANCE:.0%}, "
            f"and the one the other ± {RATE_TOLERANCE:.0%}",
            one_pace,
            timed=True,
            shows=("R4",),
        ),
    ),
    controls=(
        Control(
            "awake",
            "the servers read as fast as they can",
            (AWAKE, slow(0)),
            (
                "receive-queue-fills",
                "window-closes",
                "zero-window-captured",
                "sender-is-held",
                "receive-buffer-bounds",
                "reader-sets-the-pace",
            ),
        ),
    ),
    repetitions=5,
    explanation="""\
What arrives for a connection waits in the kernel's receive buffer until the application reads it. Every ACK tells the
sender how much room is left: the window. When nobody reads, the room shrinks to nothing, and the kernel announces a
window of 0 (`TCPToZeroWindowAdv`); the sender stops, and asks now and then, by a probe, whether there is room again.

Then the sender's own buffer fills, `send()` blocks or says EAGAIN, and the client has to wait: so pressure runs back
from an application that does not read, through two kernels, to the application that writes, and no byte is lost. The
memory that this costs is bounded by the two buffers.

The network is innocent, and the sender's kernel knows it: `tcpi_rwnd_limited` in TCP_INFO is the time for which only
the receiver's window stood in the way (`ss -ti` shows it as `rwnd_limited`). A sender that is held by a slow network
shows none of it. Look at it before you blame the network.

A server that reads slowly, as `POST /sink?rate=…` does, opens the window a little each time it has read: after a first
burst that fills the buffers, the client sends as fast as the server reads, give or take what the buffers hold.
""",
)
