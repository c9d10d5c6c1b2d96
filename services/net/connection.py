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
               else, or from an application                           or else the next message; input that comes
               that responds later                                    meanwhile is left in the kernel
    writing    room in the send buffer, for  --write-timeout (each)   the next piece of the response, producing if it
               the rest or the next piece                             is not there yet; after the last, the next message
    producing  the next piece, from an       no limit: we wait        writing
               application that makes them
               while others are served
    lingering  the peer's end of input       5 s of silence (1 s in   closed
                                             a drain), 30 s in all
    closed

"The next message" is one that was received together with the last (pipelining). When there is none, the protocol
knows what has been read so far, and the state is idle, head or body; or the connection is to close, and it lingers.
In the states executing and producing, whoever executes is told when the peer sends its last byte (an application may
take it for gone) and when the connection closes.
`finish` is how we close: in stages, by way of lingering (net/lingering.py). `close` is at once: the peer is gone, or
too slow, or it has been idle and has all that was sent (`expire`).
"""

from __future__ import annotations

import select
import socket
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from services.messages import (
    BodyPiece,
    Choose,
    Command,
    Handler,
    Later,
    Message,
    Peer,
    Protocol,
    Request,
    Response,
    make_last,
)
from services.metrics.sampling import Sampler
from services.net import timestamps
from services.net.event_loop import EventLoop, Source
from services.net.job import Execute, Job
from services.net.lingering import Linger, unsent_bytes
from services.net.outbox import Outbox
from services.net.states import EVENTS, READABLE, READING

READ_BYTES = 65536
MAX_PAUSE_SECONDS = 1.0  # a longer one is taken in parts: a closed connection's timer must not keep it for long
NEVER_NS = 1 << 62
NOT_TIMED = -1
NOT_CHOSEN: Any = None  # the protocol of a connection on which nothing has come yet
DONTWAIT = socket.MSG_DONTWAIT  # sockets stay in blocking mode: that saves the fcntl a connection


class Owner(EventLoop, ABC):
    """A connection's loop, as far as the connection needs it. `net/server_loop.py` implements it."""

    idle_deadline_ns: int
    timeouts_ns: dict[str, int]
    draining: bool
    sampler: Sampler
    received: list[tuple[Connection, bytes]]
    """Read by connections that wait for `take_up`."""
    codes: defaultdict[str, int]
    """Responses since the last look, by code."""
    submitted: int
    bytes_in: int
    bytes_out: int
    handle: Handler
    choose: Choose
    withdraw: Callable[[Job], None]

    @abstractmethod
    def take_up(self) -> None:
        """Parse what is in `received`, and execute it."""

    @abstractmethod
    def take_sample(self) -> int:
        """Return how many requests the one that is now timed stands for."""

    @abstractmethod
    def release(self, connection: Connection, fd: int, reason: str) -> None:
        """Forget a connection that closes."""


class Connection(Source):
    """An accepted connection. Owned by one loop at a time, and used by that loop's thread only."""

    __slots__ = (
        "_events", "_execute", "_inbox", "_job", "_linger", "_loop", "_outbox", "_protocol",
        "_request_came_ns", "_write_sample", "arrived_ns", "deadline_ns", "handed_off_ns", "socket", "state",
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
        self._inbox: Iterator[Message | BodyPiece | Response] = iter(())  # received and not yet executed
        self._protocol: Protocol = NOT_CHOSEN
        self._outbox: Outbox | None = None
        self._job: Job | None = None  # with whoever executes it
        self._linger: Linger | None = None
        self._request_came_ns = NOT_TIMED
        """CLOCK_MONOTONIC; of the sample that was read and not yet executed."""
        self._write_sample: tuple[int, int] | None = None
        self.state = "idle"
        self._events = READABLE
        self.deadline_ns = loop.now_ns + loop.timeouts_ns["idle"]
        loop.watch(self.socket.fileno(), self)

    # Reading.

    def ready(self, events: int, most: int = READ_BYTES) -> None:
        """Called by the loop when epoll reports this socket; reads at most `most` bytes, for `Owner.take_up`.

        This, `parse`, `advance` and `_send` are the way of nearly every request, so they are long: a call costs much.
        """
        if self.state not in READING:
            self._ready_for_other_than_reading(events)
            return
        loop = self._loop
        sampler = loop.sampler
        sampler.gap -= 1
        try:
            if sampler.gap >= 0:
                data = self.socket.recv(most, DONTWAIT)
            else:
                data, self._request_came_ns = timestamps.receive(self.socket, most, self.arrived_ns)
                sampler.draw()
        except BlockingIOError:
            return
        except OSError:
            self.close("error")
            return
        if not data:
            self.close("client")
            return
        loop.bytes_in += len(data)
        loop.received.append((self, data))

    def _ready_for_other_than_reading(self, events: int) -> None:
        if self.state == "writing":
            self._write_on()
        elif self._linger is not None:
            if self._linger.read():
                self.close(self._linger.reason)
            else:
                self.deadline_ns = self._linger.deadline_ns(self._loop.now_ns, draining=self._loop.draining)
        elif events & (select.EPOLLHUP | select.EPOLLERR):
            self.close("client")
        elif self.state in ("executing", "producing"):
            self._leave_input(events)
        else:
            self._resume(0.0, READ_BYTES)  # all of the body is in the kernel: its sender is not held up any more

    def _leave_input(self, events: int) -> None:
        """Leave what came in the kernel until the response is out; tell whoever executes of the input's end."""
        if not events & select.EPOLLRDHUP:
            self._ask_for(select.EPOLLRDHUP)
            return
        self._ask_for(0)
        if self._job is not None:
            self._job.end_of_input()
        elif self._outbox is not None and self._outbox.later is not None:
            self._outbox.later.end_of_input()

    def peer(self) -> Peer | None:
        """Return the peer's address and port; None when it is gone."""
        try:
            host, port, *_ = self.socket.getpeername()
        except OSError:
            return None
        return host, port

    def parse(self, data: bytes) -> None:
        """Called by the loop with what `ready` has read."""
        protocol = self._protocol
        if protocol is NOT_CHOSEN:
            protocol = self._protocol = self._loop.choose(data, self.peer)
        inbox = protocol.receive(data)
        self._inbox = iter(inbox)
        if inbox:
            self.state = "idle"  # a head that begins behind it has a deadline of its own
        if self._request_came_ns >= 0 and not (inbox and isinstance(inbox[0], Message)):
            self._request_came_ns, self._loop.sampler.gap = NOT_TIMED, 0  # what comes next is the sample instead

    # Executing and responding.

    def advance(self) -> None:  # noqa: C901
        """Execute what was received until something has to be waited for. Called by the loop after `parse`."""
        loop, protocol = self._loop, self._protocol
        weight = loop.take_sample() if self._request_came_ns >= 0 else 0
        for message in self._inbox:
            if message.__class__ is Response:  # the protocol's own
                self._respond(None, message)
            elif message.__class__ is BodyPiece:
                self._pause(message.reader.take(message.data), message.reader.most_bytes)
            elif self._execute is not None:
                self._submit(message, weight)  # type: ignore[arg-type]
            elif weight or loop.draining:
                self._execute_slowly(message, weight)  # type: ignore[arg-type]
                weight = 0
            else:
                response = loop.handle(message)  # type: ignore[arg-type]
                if response.__class__ is not Response:
                    self._wait_for(message, response, 0, 0)  # type: ignore[arg-type]
                    return
                data = protocol.encode(message, response)  # type: ignore[arg-type]
                loop.codes[response.code] += 1
                self._send(data, response)
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
        if weight:
            self._end_kernel_wait(started, weight)
        response = loop.handle(message)
        if not isinstance(response, Response):
            self._wait_for(message, response, weight, started)
            return
        done = time.monotonic_ns()
        if weight:
            loop.sampler.record(("service", done - started, weight))
            loop.sampler.record(("return_wait", 0, weight))
            self._write_sample = (weight, done)
        self._respond(message, response)

    def _wait_for(self, message: Message, later: Later, weight: int, started_ns: int) -> None:
        """Wait for the response of an application that gave out none; it goes on in this loop, among others."""
        self.state = "executing"
        self.deadline_ns = NEVER_NS
        self._job = job = Job(self, message, weight, started_ns)
        later.then(lambda response: self._take_response(job, response))
        job.attend(later)

    def _take_response(self, job: Job, response: Response) -> None:
        """Called by the application's loop when the response is there."""
        if job is not self._job:  # it was dropped meanwhile
            return
        self._loop.codes[response.code] += 1
        if job.weight:
            job.ready_ns = time.monotonic_ns()
            self._loop.sampler.record(("service", job.ready_ns - job.submitted_ns, job.weight))
        self.reply(job, response)

    def _respond(self, message: Message | None, response: Response) -> None:
        self._loop.codes[response.code] += 1
        self._send(self._protocol.encode(message, response), response)

    def _submit(self, message: Message, weight: int) -> None:
        assert self._execute is not None
        if self._loop.draining:
            make_last(message)
        self.state = "executing"
        self.deadline_ns = NEVER_NS
        if not (isinstance(message, Command) and message.partial):
            self._loop.submitted += 1
        self._job = job = Job(self, message, weight, time.monotonic_ns() if weight else 0)
        if weight:
            self._end_kernel_wait(job.submitted_ns, weight)
        self._execute(job)

    def _end_kernel_wait(self, now: int, weight: int) -> None:
        self._loop.sampler.record(("kernel_wait", now - self._request_came_ns, weight))
        self._request_came_ns = NOT_TIMED

    def reply(self, job: Job, response: Response) -> None:
        """Called by the loop when whoever executed `job` has responded."""
        if job is not self._job:  # it was dropped meanwhile
            return
        self._job = None
        self.state = "idle"
        if self._loop.draining and isinstance(job.message, Request):
            make_last(job.message)  # it was submitted before the drain, perhaps
            self._inbox = iter(())
        if job.weight:
            now = time.monotonic_ns()
            self._loop.sampler.record(("return_wait", now - job.ready_ns, job.weight))
            self._write_sample = (job.weight, now)
        self._send(self._protocol.encode(job.message, response), response)
        if self.state in READING:
            self.advance()

    def _pause(self, seconds: float, most: int) -> None:
        """Leave the body in the kernel, whose receive window then closes, for so long; then read at most `most`."""
        if seconds:
            self._enter("paused")
            pause = min(seconds, MAX_PAUSE_SECONDS)
            self._loop.call_later(pause, lambda: self._resume(seconds - pause, most))

    def _resume(self, rest_seconds: float, most: int) -> None:
        if self.state == "paused" and rest_seconds > 0:
            self._pause(rest_seconds, most)
        elif self.state == "paused":
            self._enter("body")
            self.advance()
            if self.state in READING:
                self.ready(READABLE, most)
                self._loop.take_up()

    # Writing.

    def _send(self, data: bytes, response: Response) -> None:
        """Send what the kernel takes; it is usually all. The rest waits until epoll says that there is room."""
        try:
            sent = self.socket.send(data, DONTWAIT)
        except BlockingIOError:
            sent = 0
        except OSError:
            if response.pieces is not None:
                response.pieces.close()
            self.close("error")
            return
        self._loop.bytes_out += sent
        if sent != len(data) or response.pieces is not None:
            self._outbox = Outbox(data[sent:], response.pieces)
            self._enter("writing")
        elif self._write_sample is not None:
            self._end_write_sample()

    def _write_on(self) -> int:
        """Send what the kernel takes of one piece; return how many bytes."""
        assert self._outbox is not None
        try:
            sent = self._outbox.send(self.socket)
        except BlockingIOError:
            return 0
        except OSError:  # or CutShortError, which is one
            self.close("error")
            return 0
        if sent:
            self._loop.bytes_out += sent
            self.deadline_ns = self._loop.now_ns + self._loop.timeouts_ns["writing"]
            return sent
        if sent == 0:
            self._wait_for_piece()
            return 0
        self._outbox = None
        self._end_write_sample()
        self.state = "idle"
        self.advance()
        return 0

    def _wait_for_piece(self) -> None:
        assert self._outbox is not None
        later = self._outbox.later
        assert later is not None
        self._enter("producing")
        later.when_more(self._write_pieces)

    def _write_pieces(self) -> None:
        """Send the pieces that there are by now, or the end. Called by the application's loop."""
        if self.state != "producing":  # it was closed meanwhile
            return
        self.state = "writing"
        self.deadline_ns = self._loop.now_ns + self._loop.timeouts_ns["writing"]
        # Without asking epoll whether there is room: usually there is, and it need not be told of the state at all.
        while self._write_on():
            pass
        if self.state == "writing":
            self._ask_for(EVENTS["writing"])

    def _end_write_sample(self) -> None:
        if self._write_sample is not None:
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
        if self._linger is not None:
            if reason := self._linger.reason_to_end(self._loop.now_ns, self._loop.timeouts_ns["writing"]):
                self.close(reason)
        elif self.state == "writing":
            self.close("write_timeout")
        elif self.state == "idle":
            self.expire("idle_timeout")
        else:
            reason = "header_timeout" if self.state == "head" else "body_timeout"
            if (response := self._protocol.timed_out()) is not None:
                self._respond(None, response)
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
        """Close in stages; `at_once`: there is no time left to wait, so only what has come by now is read."""
        if self.state == "closed":
            return
        now = self._loop.now_ns
        if self._linger is None:
            self._linger = Linger(self.socket, reason, now)
            self._drop_job()
            self._enter("lingering")
            self.deadline_ns = self._linger.deadline_ns(now, draining=self._loop.draining)
        if at_once:
            self._linger.read_all()
            self.close(self._linger.reason)

    def close(self, reason: str) -> None:
        """Close now, and count it under one of `slots.CLOSE_REASONS`."""
        if self.state != "closed":
            self._drop_job()
            self.state = "closed"
            self._inbox = iter(())  # nothing more is executed for it
            if self._outbox is not None:
                self._outbox.close()
            if self._protocol is not NOT_CHOSEN and self._protocol.phase != "idle":
                self._protocol.close()
            self._loop.release(self, self.socket.fileno(), reason)
            self.socket.close()

    def _drop_job(self) -> None:
        if self._job is not None:
            self._loop.withdraw(self._job)
            self._job.cancel()
            self._job = None
