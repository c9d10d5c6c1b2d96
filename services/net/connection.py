"""One TCP connection: bytes to messages, messages to answers, answers to bytes.

A connection knows its socket, its protocol and its loop. Who executes a message is not its business:
without `execute` the loop's own handler does, at once; with it the message goes to `execute`, and
whoever executes calls `reply`. Either way one message of a connection is executed at a time, which
keeps pipelined answers in order, and none while the peer has not taken the answer before
(back-pressure): what a peer can make us hold is one read, one body and one response.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.messages import Message, Protocol, Request, Response
from services.metrics import stages
from services.net.event_loop import EventLoop, Source

READABLE, WRITABLE = select.EPOLLIN, select.EPOLLOUT
SLOWED = select.EPOLLRDHUP
"""Read nothing for now, but hear of a peer that has sent all it had."""
READ_BYTES = 65536
FLUSH_BYTES = 65536
FILLER = memoryview(bytes(65536))
ANCILLARY_BYTES = socket.CMSG_SPACE(16)
SLOW_READ_SECONDS = 0.1
"""A body that is read at a rate is read this often."""
MAX_PAUSE_SECONDS = 1.0
"""A longer pause is taken in parts: a closed connection's timer must not keep it in memory for hours."""
LINGER_NS = 2_000_000_000
NEVER_NS = 1 << 62
NOT_TIMED = -1

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


class Connection(Source):
    """An accepted connection. Owned by one loop at a time, and used by that loop's thread only."""

    __slots__ = (
        "_execute", "_filler", "_inbox", "_interest", "_job", "_lingering", "_loop", "_no_more_input", "_outbox",
        "_phase", "_protocol", "_waiting", "_write_sample", "arrived_ns", "deadline_ns", "handed_off_ns", "socket",
    )  # fmt: skip

    def __init__(self, sock: socket.SocketType, arrived_ns: int = 0, handed_off_ns: int = 0) -> None:
        self.socket = sock
        self.arrived_ns = arrived_ns
        """CLOCK_REALTIME of accept() or pick-up, behind which kernel_wait may not reach."""
        self.handed_off_ns = handed_off_ns
        """CLOCK_MONOTONIC of the hand-off; 0 where there is none."""

    def begin(self, loop: EventLoop, execute: Execute | None) -> None:
        """Called by the loop that serves this connection from now on."""
        self._loop = loop
        self._execute = execute
        self._protocol: Protocol | None = None
        self._phase = "idle"
        self._inbox: Sequence[Message | Response] = ()
        self._outbox: bytes | memoryview = b""
        self._filler = 0
        self._job: Job | None = None
        """With whoever executes it."""
        self._interest = READABLE
        self._waiting = self._no_more_input = self._lingering = False
        self._write_sample: tuple[int, int] | None = None
        self.deadline_ns = loop.now_ns + loop.timeouts_ns["idle"]
        loop.watch(self.socket.fileno(), self)

    # Reading.

    def ready(self, events: int) -> None:
        """Called by the loop when epoll reports this socket."""
        if self._interest != READABLE or self._waiting or self._lingering:
            self._ready_for_other_than_reading(events)
            return
        self._read(READ_BYTES)

    def _read(self, most: int) -> None:
        try:
            data = self.socket.recv(most, DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            self.close("error")
            return
        self._received(data)

    def ready_timed(self, events: int) -> None:
        """Called by the loop instead of `ready` if what comes now is to be timed (DESIGN.md, section 3)."""
        if self._interest != READABLE or self._waiting or self._lingering:
            self._ready_for_other_than_reading(events)
            return
        try:
            data, ancillary, _flags, _address = self.socket.recvmsg(READ_BYTES, ANCILLARY_BYTES, DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            self.close("error")
            return
        now = time.time_ns()
        waited = stages.kernel_wait_ns(ancillary, now) or 0
        # The part before accept() or pick-up is accept_wait's or dispatch_wait's.
        self._received(data, max(0, min(waited, now - self.arrived_ns)))

    def _ready_for_other_than_reading(self, events: int) -> None:
        if self._interest == WRITABLE and events & WRITABLE:
            self._write_on()
        elif self._interest == SLOWED and not events & (select.EPOLLHUP | select.EPOLLERR):
            self._stop_slowing()
        elif self._interest != READABLE:  # nothing was waited for, so this is a hang-up or an error
            self.close("client")
        elif self._lingering:
            self._discard()
        else:
            self._watch_for(0)  # leave what came in the kernel until the answer is out

    def _received(self, data: bytes, kernel_wait: int = NOT_TIMED) -> None:
        if not data:
            self._end_of_input()
            return
        loop = self._loop
        loop.bytes_in += len(data)
        protocol = self._protocol
        if protocol is None:
            protocol = self._protocol = loop.choose(data)
        inbox = protocol.receive(data)
        if kernel_wait != NOT_TIMED and inbox and not isinstance(inbox[0], Response):
            self._answer_timed(inbox[0], inbox[1:], kernel_wait)
        elif len(inbox) == 1 and self._answer_one(inbox[0]):
            return
        else:
            self._advance(inbox)
        # A body is only slowed down while nothing else is waited for: that has its own way to go on.
        busy = self._waiting or self._outbox or self._inbox
        if protocol.read_rate and not busy and self.socket.fileno() >= 0:
            self._slow_down(len(data) / protocol.read_rate)

    def _end_of_input(self) -> None:
        self._no_more_input = True
        if self._waiting or self._outbox:
            self._watch_for(0)  # it may still be listening: answer first
        else:
            self.close("client")

    def _slow_down(self, seconds: float) -> None:
        """Leave the body in the kernel, whose receive window then closes, for as long as the rate asks."""
        self._waiting = True
        self._watch_for(SLOWED)
        self.deadline_ns = NEVER_NS  # it is we who wait
        pause = min(seconds, MAX_PAUSE_SECONDS)
        self._loop.call_later(pause, lambda: self._read_slowly(seconds - pause))

    def _read_slowly(self, owed_seconds: float) -> None:
        protocol = self._protocol
        if protocol is None or self.socket.fileno() < 0 or self._interest != SLOWED:
            return
        if owed_seconds > 0:
            self._slow_down(owed_seconds)
            return
        self._stop_slowing()
        self._read(max(1, int(protocol.read_rate * SLOW_READ_SECONDS)) if protocol.read_rate else READ_BYTES)

    def _stop_slowing(self) -> None:
        """The pause is over; or all of the body is in the kernel, so that its sender is not held up any more."""
        self._waiting = False
        self._watch_for(READABLE)
        self.deadline_ns = self._loop.now_ns + self._loop.timeouts_ns["body"]

    # Executing and answering.

    def _answer_one(self, message: Message | Response) -> bool:
        """The usual case at one go: one message came, and nothing else is going on.

        Nothing that `_advance` would not do as well, but it halves the Python that nearly every request
        runs through (measured: +25 % requests a second). False: nothing was done, do it the long way.
        """
        loop, protocol = self._loop, self._protocol
        if protocol is None or message.__class__ is Response or loop.draining or self._outbox or self._waiting:
            return False
        self._phase = "idle"  # what is read next has a deadline of its own
        if self._execute is not None:
            self._waiting = True
            self.deadline_ns = NEVER_NS
            loop.submitted += 1
            self._job = job = Job(self, message)  # type: ignore[arg-type]
            self._execute(job)
            return True
        response = loop.handle(message)  # type: ignore[arg-type]
        answer = protocol.encode(message, response)  # type: ignore[arg-type]
        if loop.codes is not None:
            loop.codes[response.code] += 1
        self._send_answer(answer, response.filler)
        return True

    def _send_answer(self, answer: bytes, filler: int) -> None:
        """Usually the kernel takes all of it, and all there is to do then is to wait for the next request."""
        loop, protocol = self._loop, self._protocol
        assert protocol is not None
        try:
            sent = self.socket.send(answer, DONTWAIT)
        except OSError as error:
            sent = self._send_failed(error)
        loop.bytes_out += sent
        if self._write_sample and sent == len(answer) and not filler:
            self._end_write_sample()
        if (
            sent == len(answer)
            and not (filler or self._inbox or protocol.closing or loop.draining)
            and protocol.phase == "idle"
            and self._interest == READABLE
        ):
            self.deadline_ns = loop.idle_deadline_ns
            return
        self._filler = filler
        self._sent(answer, sent)
        if self.socket.fileno() >= 0:
            self._advance(self._inbox)

    def _advance(self, inbox: Sequence[Message | Response]) -> None:
        """Answer what was received, message by message, until something has to be waited for."""
        while inbox and not (self._waiting or self._outbox):
            self._phase = "idle"  # what is read next has a deadline of its own
            inbox = inbox[self._answer(inbox) :]
        self._inbox = inbox or ()
        self._settle()

    def _answer(self, inbox: Sequence[Message | Response]) -> int:
        """Answer messages up to a bufferful, with one `send`; how many were taken."""
        loop, protocol = self._loop, self._protocol
        assert protocol is not None
        answers: list[bytes] = []
        size = taken = 0
        for message in inbox:
            if isinstance(message, Response):
                answer = protocol.encode(None, response := message)
                self._lingering = protocol.closing
            elif self._execute is None:
                if loop.draining:
                    last_answer(message)
                response = loop.handle(message)
                answer = protocol.encode(message, response)
            else:
                if not answers:
                    self._submit(Job(self, message))
                    taken += 1
                break
            taken += 1
            answers.append(answer)
            if loop.codes is not None:
                loop.codes[response.code] += 1
            size += len(answer)
            if response.filler or size > FLUSH_BYTES:
                self._filler = response.filler
                break
        if answers:
            self._send(answers[0] if taken == 1 else b"".join(answers))
        return taken

    def _submit(self, job: Job) -> None:
        self._waiting = True
        if self._loop.draining:
            last_answer(job.message)
        self._loop.submitted += 1
        self._job = job
        assert self._execute is not None
        self._execute(job)

    def reply(self, job: Job, response: Response) -> None:
        """Called by the loop when whoever executed `job` has answered."""
        if self.socket.fileno() < 0:
            return
        assert self._protocol is not None
        self._waiting = False
        self._job = None
        answer = self._protocol.encode(job.message, response)
        if job.weight:
            self._loop.sampler.record(("return_wait", time.monotonic_ns() - job.ready_ns, job.weight))
            self._write_sample = (job.weight, time.monotonic_ns())
        self._send_answer(answer, response.filler)  # only now: encoding an answer to HEAD clears the filler

    # Writing.

    def _send(self, data: bytes | memoryview) -> None:
        """Send what the kernel takes; the rest waits in the outbox until epoll says that there is room."""
        try:
            sent = self.socket.send(data, DONTWAIT)
        except OSError as error:
            sent = self._send_failed(error)
        self._loop.bytes_out += sent
        self._sent(data, sent)

    def _send_failed(self, error: OSError) -> int:
        """Nothing was sent: there is no room now, or never again."""
        if not isinstance(error, BlockingIOError):
            self.close("error")
        return 0

    def _sent(self, data: bytes | memoryview, sent: int) -> None:
        if sent == len(data):
            self._outbox = b""
            if self._filler:
                self._fill()
            elif self._write_sample:
                self._end_write_sample()
        elif self.socket.fileno() >= 0:
            self._outbox = memoryview(data)[sent:]

    def _fill(self) -> None:
        self._outbox = FILLER[: self._filler]
        self._filler -= len(self._outbox)

    def _write_on(self) -> None:
        self.deadline_ns = self._loop.now_ns + self._loop.timeouts_ns["write"]
        self._send(self._outbox)
        if self.socket.fileno() >= 0:
            self._advance(self._inbox)

    def _settle(self) -> None:
        """Decide what to wait for next, and for how long."""
        loop, protocol = self._loop, self._protocol
        assert protocol is not None
        if self.socket.fileno() < 0:
            return
        if self._outbox:
            if self._interest != WRITABLE:
                self._watch_for(WRITABLE)
                self.deadline_ns = loop.now_ns + loop.timeouts_ns["write"]
            return
        if self._waiting:
            self.deadline_ns = NEVER_NS
            return
        if protocol.closing or self._no_more_input or (loop.draining and protocol.phase == "idle"):
            self._finish()
            return
        phase = protocol.phase
        if phase != "head" or self._phase != "head":  # a head has one deadline, however it trickles in
            self.deadline_ns = loop.now_ns + loop.timeouts_ns[phase]
        self._phase = phase
        if self._interest != READABLE:
            self._watch_for(READABLE)

    def _watch_for(self, events: int) -> None:
        if self._interest != events:
            self._interest = events
            self._loop.change(self.socket.fileno(), events)

    # The end.

    def _finish(self) -> None:
        if not self._lingering:
            self.close("drain" if self._loop.draining else "server")
            return
        # The peer was refused and may still be sending. Closing with unread bytes would send RST, which
        # can destroy the answer before it is read: say that nothing more comes, and read to the end.
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)
        self._watch_for(READABLE)
        self.deadline_ns = self._loop.now_ns + LINGER_NS

    def _discard(self) -> None:
        try:
            if not self.socket.recv(READ_BYTES, DONTWAIT):
                self.close("server")
        except BlockingIOError:
            pass
        except OSError:
            self.close("server")

    def timed_out(self) -> None:
        """Called by the loop when the deadline has passed."""
        protocol, phase = self._protocol, self._phase
        if self._lingering or self._outbox:
            self.close("server" if self._lingering else "write_timeout")
            return
        farewell = protocol.timed_out() if protocol is not None else None
        if protocol is not None and farewell is not None:
            if self._loop.codes is not None:
                self._loop.codes[farewell.code] += 1
            self._send(protocol.encode(None, farewell))
        self.close(f"{'header' if phase == 'head' else phase}_timeout")

    def is_silent(self, since_ns: int) -> bool:
        """Nothing is begun here, and nothing has come since then: a drain may close it."""
        idle = not (self._waiting or self._outbox or self._inbox) and self._phase == "idle"
        return idle and self.deadline_ns - self._loop.timeouts_ns["idle"] <= since_ns

    def close(self, reason: str) -> None:
        """Close now, and count it under one of `slots.CLOSE_REASONS`."""
        fd = self.socket.fileno()
        if fd >= 0:
            if self._job is not None:
                self._loop.withdraw(self._job)
                self._job = None
            self._waiting = True  # nothing more is executed for it
            self._loop.disown(self, fd, reason)
            self.socket.close()

    # Timing one request in many (DESIGN.md, section 3).

    def _answer_timed(self, message: Message, inbox: Sequence[Message | Response], kernel_wait: int) -> None:
        """Answer `message` with every stage timed, then the others in `inbox`.

        It goes the ways of untimed requests as far as it can, also because their code is warm.
        """
        loop, protocol, sampler = self._loop, self._protocol, self._loop.sampler
        assert protocol is not None
        self._inbox = inbox
        self._phase = "idle"
        weight = loop.take_sample()
        sampler.record(("kernel_wait", kernel_wait, weight))
        if self._execute is not None:
            self.deadline_ns = NEVER_NS
            self._submit(Job(self, message, weight, time.monotonic_ns()))
            return
        if loop.draining:
            last_answer(message)
        started = time.monotonic_ns()
        response = loop.handle(message)
        done = time.monotonic_ns()
        sampler.record(("service", done - started, weight))
        sampler.record(("return_wait", 0, weight))
        self._write_sample = (weight, done)
        answer = protocol.encode(message, response)
        if loop.codes is not None:
            loop.codes[response.code] += 1
        self._send_answer(answer, response.filler)

    def _end_write_sample(self) -> None:
        assert self._write_sample is not None
        weight, began = self._write_sample
        self._write_sample = None
        self._loop.sampler.record(("write", time.monotonic_ns() - began, weight))


def last_answer(message: Message) -> None:
    """Have the answer say that the connection closes, where the protocol can say it."""
    if isinstance(message, Request):
        message.keep_alive = False
