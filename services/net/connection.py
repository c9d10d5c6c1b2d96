"""One TCP connection: bytes to messages, messages to responses, responses to bytes.

A connection knows its socket, its protocol and its owner, the loop. Who executes a message is not its business: without
`execute` the loop's own handler does, at once; with it the message goes to `execute`, and whoever executes calls
`reply`, later. Either way one message of a connection is executed at a time, which keeps pipelined responses in order,
and none while the peer has not taken the response before (back-pressure): all that a peer can make us hold is one read,
one body and one response, or one piece of it.

The states, and what moves a connection from one to the next:

    state      waits for                     until                    and then
    ---------  ----------------------------  -----------------------  ----------------------------------------------
    idle       a request's first byte        --idle-timeout           expire
    head       the rest of its head          --header-timeout (all)   408, finish
    body       the next bytes of its body    --body-timeout (each)    408, finish
    paused     a pause that whoever takes    no limit: we wait        body; sooner if the peer has sent its last byte
               the body in pieces asked for
    executing  the response, from somebody   no limit: we wait        writing, if the kernel does not take all of it,
               else (a handler that                                   or else the next message
               responds later)
    writing    room in the send buffer, for  --write-timeout (each)   the next piece of the response; after the last,
               the rest or the next piece                             the next message
    lingering  the peer's end of input       5 s of silence (1 s in   closed
                                             a drain), 30 s in all
    closed

"The next message" is one that was received together with the last (pipelining). When there is none, the protocol
knows what has been read so far, and the state is idle, head or body; or the connection is to close, and it lingers.
`finish` is how we close: in stages, by way of lingering. `close` is at once: the peer is gone, or too slow, or it has
been idle and has all that was sent (`expire`).

RST on close. close() on a socket with unread bytes, or that gets bytes afterwards, makes the kernel send RST; and RST
makes it throw away what is still in the send buffer, and the peer's kernel (not Linux's) what has arrived but was not
read: the end of a response is lost because a blank line came behind the request. So we say that no more comes
(shutdown), read on and throw away until the peer closes too, and only then close (RFC 9112, section 9.6; nginx's
lingering_close). The peer's acknowledgements count as life: while the send buffer is not empty (SIOCOUTQ), the write
timeout is what governs.
"""

from __future__ import annotations

import contextlib
import fcntl
import select
import socket
import struct
import termios
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from typing import Protocol as Interface

from services.messages import BodyPiece, Handler, Message, Protocol, Request, Response
from services.metrics.sampling import Sampler
from services.net import timestamps
from services.net.event_loop import Callback, Source

READABLE, WRITABLE = select.EPOLLIN, select.EPOLLOUT
READING = frozenset({"idle", "head", "body"})
EVENTS = {
    "idle": READABLE, "head": READABLE, "body": READABLE,
    "paused": select.EPOLLRDHUP,  # read nothing for now, but hear of a peer that has sent all it had
    "executing": READABLE,  # usually the response comes first, so that epoll need not be told twice
    "writing": WRITABLE,
    "lingering": READABLE,
}  # fmt: skip
"""What epoll is asked for in each state."""
READ_BYTES = 65536
MAX_PAUSE_SECONDS = 1.0
"""A longer pause is taken in parts: a closed connection's timer must not keep it in memory for hours."""
LINGER_NS = 30_000_000_000
LINGER_SILENCE_NS = 5_000_000_000
DRAIN_SILENCE_NS = 1_000_000_000
"""As LINGER_SILENCE_NS, in a drain: somebody waits for the server to end."""
NEVER_NS = 1 << 62
NOT_TIMED = -1
NOT_CHOSEN: Any = None
"""The protocol of a connection on which nothing has come yet."""
MOST_DISCARDS = 64
"""Reads, at the most, where there is no time left to wait for the peer."""

# Sockets are left in blocking mode and every call says DONTWAIT: that saves the fcntl a connection.
DONTWAIT = socket.MSG_DONTWAIT


@dataclass(slots=True, eq=False)
class Job:
    """One message on its way to whoever executes it, and back. Times are monotonic ns.

    `weight` is how many requests this one stands for in the stages' histograms; 0: not sampled.
    """

    connection: Connection
    message: Message
    weight: int = 0
    submitted_ns: int = 0
    ready_ns: int = 0


Execute = Callable[[Job], None]


class Owner(Interface):
    """A connection's loop, as far as the connection needs it. `net/server_loop.py` implements it."""

    now_ns: int
    idle_deadline_ns: int
    timeouts_ns: dict[str, int]
    draining: bool
    sampler: Sampler
    codes: defaultdict[str, int]
    """Responses since the last look, by code."""
    submitted: int
    bytes_in: int
    bytes_out: int
    handle: Handler
    choose: Callable[[bytes], Protocol]
    withdraw: Callable[[Job], None]

    def watch(self, fd: int, source: Source, events: int = READABLE) -> None:
        """Call `source.ready` whenever one of `events` holds for `fd`."""

    def change(self, fd: int, events: int) -> None:
        """Watch `fd` for other events."""

    def call_later(self, seconds: float, callback: Callback) -> None:
        """Call `callback` once, `seconds` from now."""

    def take_sample(self) -> int:
        """Return how many requests the one that is now timed stands for."""

    def release(self, connection: Connection, fd: int, reason: str) -> None:
        """Forget a connection that closes."""


@dataclass(slots=True)
class Linger:
    """A connection that is being closed in stages. Times are monotonic ns."""

    reason: str
    """It closes for this reason, one of `slots.CLOSE_REASONS`."""
    ends_ns: int
    unsent_bytes: int
    """In the send buffer, when last looked at."""
    stalled_ns: int
    """When they last became fewer."""


class Connection(Source):
    """An accepted connection. Owned by one loop at a time, and used by that loop's thread only."""

    __slots__ = (
        "_events", "_execute", "_inbox", "_job", "_linger", "_loop", "_outbox", "_pieces", "_protocol",
        "_write_sample", "arrived_ns", "deadline_ns", "handed_off_ns", "socket", "state",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, arrived_ns: int = 0, handed_off_ns: int = 0) -> None:
        self.socket = sock
        self.arrived_ns = arrived_ns
        """CLOCK_REALTIME of accept() or pick-up, behind which kernel_wait may not reach."""
        self.handed_off_ns = handed_off_ns
        """CLOCK_MONOTONIC of the hand-off; 0 where there is none."""

    def begin(self, loop: Owner, execute: Execute | None) -> None:
        """Called by the loop that serves this connection from now on."""
        self._loop = loop
        self._execute = execute
        self._inbox: Iterator[Message | BodyPiece | Response] = iter(())
        """Received and not yet executed."""
        self._protocol: Protocol = NOT_CHOSEN
        self._outbox: bytes | memoryview = b""
        self._pieces: Iterator[bytes | memoryview] | None = None
        """What follows the outbox."""
        self._job: Job | None = None
        """With whoever executes it."""
        self._linger: Linger | None = None
        self._write_sample: tuple[int, int] | None = None
        self.state = "idle"
        self._events = READABLE
        self.deadline_ns = loop.now_ns + loop.timeouts_ns["idle"]
        loop.watch(self.socket.fileno(), self)

    # Reading.

    def ready(self, events: int, most: int = READ_BYTES) -> None:
        """Called by the loop when epoll reports this socket; reads at most `most` bytes.

        This and the three that it calls (`_advance`, `_send` and the protocol's `encode`) are the way of nearly every
        request, and long for that reason: a call costs as much as half of what is done in one.
        """
        if self.state not in READING:
            self._ready_for_other_than_reading(events)
            return
        loop = self._loop
        sampler = loop.sampler
        sampler.gap -= 1
        kernel_wait = NOT_TIMED
        try:
            if sampler.gap >= 0:
                data = self.socket.recv(most, DONTWAIT)
            else:
                data, kernel_wait = timestamps.receive(self.socket, most, self.arrived_ns)
        except BlockingIOError:
            return
        except OSError:
            self.close("error")
            return
        if not data:
            self.close("client")
            return
        loop.bytes_in += len(data)
        protocol = self._protocol
        if protocol is NOT_CHOSEN:
            protocol = self._protocol = loop.choose(data)
        inbox = protocol.receive(data)
        self._inbox = iter(inbox)
        if kernel_wait >= 0 and inbox and not isinstance(inbox[0], (Response, BodyPiece)):
            weight = loop.take_sample()
            sampler.record(("kernel_wait", kernel_wait, weight))
            self._advance(weight)
        else:
            self._advance()

    def _ready_for_other_than_reading(self, events: int) -> None:
        if self.state == "writing":
            self._write_on()
        elif self.state == "lingering":
            self._discard()
        elif events & (select.EPOLLHUP | select.EPOLLERR):
            self.close("client")
        elif self.state == "executing":
            self._ask_for(0)  # leave what came in the kernel until the response is out
        else:
            self._resume(0.0, READ_BYTES)  # all of the body is in the kernel: its sender is not held up any more

    # Executing and responding.

    def _advance(self, weight: int = 0) -> None:
        """Execute what was received, message by message, until something has to be waited for.

        `weight` is of the first message, if that is a sample.
        """
        loop, protocol = self._loop, self._protocol
        for message in self._inbox:
            if message.__class__ is Response:  # the protocol's own
                self._respond(message)
            elif message.__class__ is BodyPiece:
                self._take_piece(message)
            elif self._execute is not None:
                self._submit(message, weight)  # type: ignore[arg-type]
            elif weight or loop.draining:
                self._execute_slowly(message, weight)  # type: ignore[arg-type]
                weight = 0
            else:
                response = loop.handle(message)  # type: ignore[arg-type]
                loop.codes[response.code] += 1
                self._send(protocol.encode(message, response), response)  # type: ignore[arg-type]
            if self.state not in READING:
                return
            if loop.draining and isinstance(message, Request):  # its response has said that it is the last
                break
        phase = protocol.phase
        if protocol.closing or (loop.draining and phase == "idle"):
            self.finish("server")
        elif phase == "idle" and self._events == READABLE:  # nearly always
            self.state = "idle"
            self.deadline_ns = loop.idle_deadline_ns
        else:
            self._enter(phase)

    def _execute_slowly(self, message: Message, weight: int) -> None:
        """Execute with what is rarely done: time a sample (docs/design.md, "Stages"), or make it the last."""
        loop = self._loop
        if loop.draining:
            make_last(message)
        started = time.monotonic_ns()
        response = loop.handle(message)
        done = time.monotonic_ns()
        if weight:
            loop.sampler.record(("service", done - started, weight))
            loop.sampler.record(("return_wait", 0, weight))
            self._write_sample = (weight, done)
        loop.codes[response.code] += 1
        self._send(self._protocol.encode(message, response), response)

    def _respond(self, response: Response) -> None:
        """Send what the protocol says of itself."""
        self._loop.codes[response.code] += 1
        self._send(self._protocol.encode(None, response), response)

    def _submit(self, message: Message, weight: int) -> None:
        assert self._execute is not None
        if self._loop.draining:
            make_last(message)
        self.state = "executing"
        self.deadline_ns = NEVER_NS
        self._loop.submitted += 1
        self._job = job = Job(self, message, weight, time.monotonic_ns() if weight else 0)
        self._execute(job)

    def reply(self, job: Job, response: Response) -> None:
        """Called by the loop when whoever executed `job` has responded."""
        if self.state == "closed":
            return
        self._job = None
        self.state = "idle"
        if self._loop.draining and isinstance(job.message, Request):
            self._inbox = iter(())
        if job.weight:
            now = time.monotonic_ns()
            self._loop.sampler.record(("return_wait", now - job.ready_ns, job.weight))
            self._write_sample = (job.weight, now)
        self._send(self._protocol.encode(job.message, response), response)
        if self.state in READING:
            self._advance()

    def _take_piece(self, piece: BodyPiece) -> None:
        pause = piece.reader.take(piece.data)
        if pause:
            self._pause(pause, piece.reader.most_bytes)

    def _pause(self, seconds: float, most: int) -> None:
        """Leave the body in the kernel, whose receive window then closes, for so long; then read at most `most`."""
        self._enter("paused")
        pause = min(seconds, MAX_PAUSE_SECONDS)
        self._loop.call_later(pause, lambda: self._resume(seconds - pause, most))

    def _resume(self, rest_seconds: float, most: int) -> None:
        if self.state != "paused":
            return
        if rest_seconds > 0:
            self._pause(rest_seconds, most)
            return
        self._enter("body")
        self._advance()
        if self.state in READING:
            self.ready(READABLE, most)

    # Writing.

    def _send(self, data: bytes, response: Response) -> None:
        """Send what the kernel takes; it is usually all. The rest waits until epoll says that there is room."""
        # Only now: encoding a response to HEAD takes its pieces away.
        if response.pieces is not None:
            self._pieces = iter(response.pieces)
        try:
            sent = self.socket.send(data, DONTWAIT)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close("error")
            return
        self._loop.bytes_out += sent
        if sent != len(data) or self._pieces is not None:
            self._outbox = memoryview(data)[sent:]
            self._enter("writing")
        elif self._write_sample is not None:
            self._end_write_sample()

    def _write_on(self) -> None:
        if not self._outbox and self._pieces is not None:
            piece = next(self._pieces, None)
            if piece is None:
                self._pieces = None
            else:
                self._outbox = memoryview(piece)
        try:
            sent = self.socket.send(self._outbox, DONTWAIT) if self._outbox else 0
        except BlockingIOError:
            return
        except OSError:
            self.close("error")
            return
        self._loop.bytes_out += sent
        self._outbox = self._outbox[sent:]
        self.deadline_ns = self._loop.now_ns + self._loop.timeouts_ns["writing"]
        if not self._outbox and self._pieces is None:
            if self._write_sample is not None:
                self._end_write_sample()
            self.state = "idle"
            self._advance()

    def _end_write_sample(self) -> None:
        assert self._write_sample is not None
        weight, began = self._write_sample
        self._write_sample = None
        self._loop.sampler.record(("write", time.monotonic_ns() - began, weight))

    # Waiting.

    def _enter(self, state: str) -> None:
        """Wait in this state from now on, for what the table says and for as long."""
        loop = self._loop
        if state != "head" or self.state != "head":  # a head has one deadline, however it trickles in
            timeout = loop.timeouts_ns.get(state)
            self.deadline_ns = NEVER_NS if timeout is None else loop.now_ns + timeout
        self.state = state
        self._ask_for(EVENTS[state])

    def _ask_for(self, events: int) -> None:
        if events != self._events:
            self._events = events
            self._loop.change(self.socket.fileno(), events)

    def is_idle_since(self, since_ns: int) -> bool:
        """Return whether nothing is begun here, and nothing has come since then: a drain may close it."""
        return self.state == "idle" and self.deadline_ns - self._loop.timeouts_ns["idle"] <= since_ns

    def timed_out(self) -> None:
        """Called by the loop when the deadline has passed."""
        if self.state == "lingering":
            self._linger_on()
        elif self.state == "writing":
            self.close("write_timeout")
        elif self.state == "idle":
            self.expire("idle_timeout")
        else:
            reason = "header_timeout" if self.state == "head" else "body_timeout"
            response = self._protocol.timed_out()
            if response is not None:
                self._respond(response)
            if self.state in READING:
                self.finish(reason)

    # Closing.

    def expire(self, reason: str) -> None:
        """Close a connection that is idle: at once if the peer has all that was sent, or else in stages."""
        if self._protocol is NOT_CHOSEN or not unsent_bytes(self.socket):
            self.close(reason)
        else:
            self.finish(reason)

    def finish(self, reason: str, *, at_once: bool = False) -> None:
        """Close in stages: say that no more comes, then wait for the peer to say so.

        `at_once`: there is no time left to wait, so only what has come by now is read.
        """
        if self.state == "closed":
            return
        if self._linger is None:
            with contextlib.suppress(OSError):  # the peer is gone: reading says so
                self.socket.shutdown(socket.SHUT_WR)
            self._drop_job()
            now = self._loop.now_ns
            self._linger = Linger(reason, now + LINGER_NS, unsent_bytes(self.socket), now)
            self._enter("lingering")
            self.deadline_ns = now + self._silence_ns
        if at_once:
            for _ in range(MOST_DISCARDS):
                if not self._discard():
                    break
            self.close(self._linger.reason)

    @property
    def _silence_ns(self) -> int:
        return DRAIN_SILENCE_NS if self._loop.draining else LINGER_SILENCE_NS

    def _discard(self) -> bool:
        """Throw away what has come; False when there was nothing."""
        assert self._linger is not None
        try:
            data = self.socket.recv(READ_BYTES, DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if data:
            self.deadline_ns = min(self._loop.now_ns + self._silence_ns, self._linger.ends_ns)
        else:
            self.close(self._linger.reason)
        return bool(data)

    def _linger_on(self) -> None:
        """The peer has been silent, or has sent for too long: but it may still be reading."""
        assert self._linger is not None
        linger, now = self._linger, self._loop.now_ns
        unsent = unsent_bytes(self.socket)
        if unsent < linger.unsent_bytes:
            linger.unsent_bytes, linger.stalled_ns = unsent, now
        if not unsent:
            self.close(linger.reason)
        elif now - linger.stalled_ns > self._loop.timeouts_ns["writing"]:
            self.close("write_timeout")
        else:
            self.deadline_ns = now + self._silence_ns

    def close(self, reason: str) -> None:
        """Close now, and count it under one of `slots.CLOSE_REASONS`."""
        if self.state != "closed":
            self._drop_job()
            self.state = "closed"
            self._inbox = iter(())  # nothing more is executed for it
            self._loop.release(self, self.socket.fileno(), reason)
            self.socket.close()

    def _drop_job(self) -> None:
        if self._job is not None:
            self._loop.withdraw(self._job)
            self._job = None


def unsent_bytes(sock: socket.socket) -> int:
    """Return how many bytes the peer has not acknowledged yet (SIOCOUTQ)."""
    return int(struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0\0\0\0"))[0])


def make_last(message: Message) -> None:
    """Have the response say that the connection closes, where the protocol can say it."""
    if isinstance(message, Request):
        message.keep_alive = False
