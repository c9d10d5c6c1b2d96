"""Handshake: who completes it, and when? The kernel, before `accept()` is called at all."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING, NamedTuple

from lab.experiments import theory
from lab.harness.checks import always, every_trial
from lab.harness.experiment import Check, Control, Experiment
from lab.harness.observation import Arm, Observation, Quantity
from lab.sandbox.sockets import accept_queue, half_open, sender
from lab.sandbox.wire import Ghost, Segment, capturing, ghost_addresses, ghost_socket, retry_steps, route_ghosts

if TYPE_CHECKING:
    from lab.harness.trial import Trial
    from lab.sandbox.wire import Capture

PORT = 8000
BACKLOG = 8
QUICK_BUSY_SECONDS, BUSY_SECONDS = 0.5, 1.0
"""Time for which the server does other things before it calls accept()."""
QUICK_HELD_SECONDS, HELD_SECONDS = 1.5, 3.5
"""Time for which the client holds back its final ACK: past the first retry, or the first two."""
SETTLE_SECONDS = 0.1
"""Far longer than a packet takes."""
REQUEST = b"GET / HTTP/1.1\r\n\r\n"
LATE_SHARE = 0.1
LATER_SECONDS = 0.1
EARLY_SHARE = 0.01
"""The kernel's timers count jiffies, the capture nanoseconds."""
SYN_BYTES = 1
"""The kernel counts the SYN as an acknowledged byte, as TCP does."""
WRAP = 1 << 32
"""Sequence numbers begin again there."""

THREE_WAY = "RFC 9293, 3.5"
KERNEL = "Linux, tcp_minisocks.c: tcp_check_req puts the connection into the accept queue; accept(2)"
SYN_RECV = "Linux, inet_connection_sock.c: inet_csk_reqsk_queue_hash_add; ss(8), state syn-recv"
REPEATS = "Linux, inet_connection_sock.c: reqsk_timer_handler doubles the timeout, from 1 s"


def trial(trial: Trial) -> Observation:
    """One handshake, by the client's kernel or by hand, while the server does other things."""
    observation = Observation()
    route_ghosts(trial.server, trial.client)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(trial.server.socket())
        listener.bind((trial.server.address, PORT))
        listener.listen(BACKLOG)
        capture = stack.enter_context(capturing(trial.client, "client0"))
        steps = by_hand if trial.parameter("by hand") else by_kernel
        steps(trial, listener, capture, observation)
    return observation


def by_kernel(trial: Trial, listener: socket.socket, capture: Capture, observation: Observation) -> None:
    """connect(), and accept() long after."""
    begun = time.time()
    states = [state(trial, begun, "before connect()")]
    with trial.client.socket() as client, contextlib.ExitStack() as stack:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, trial.parameter("quick ack"))
        calling = time.time()
        client.connect(listener.getsockname())
        connected = time.time()
        if trial.parameter("at once"):
            stack.enter_context(listener.accept()[0])
        accepted = time.time()
        time.sleep(SETTLE_SECONDS)
        handshake = list(capture.segments)
        states.append(state(trial, begun, "connect() has returned"))
        client.sendall(REQUEST)
        time.sleep(QUICK_BUSY_SECONDS if trial.quick else BUSY_SECONDS)
        acknowledged, queue = sender(client).acknowledged_bytes, accept_queue(trial.server, PORT).length
        states.append(state(trial, begun, f"the client has sent {len(REQUEST)} B, and all are acknowledged"))
        before, accepting = len(capture.segments), time.time()
        if not trial.parameter("at once"):
            server = stack.enter_context(listener.accept()[0])
            accepted = time.time()
            server.sendall(trial.parameter("greeting").encode())
        time.sleep(SETTLE_SECONDS)
        after = list(capture.segments)
        states.append(state(trial, begun, f"accept() has returned, after {max(0, accepted - accepting) * 1000:.2f} ms"))
    observation.notes = told(states, after, begun)
    observation.metrics |= {
        "three segments": Quantity(int(is_three_way(handshake))),
        "connect()": Quantity((connected - calling) * 1000, "ms"),
        "accept()": Quantity((accepted - calling) * 1000, "ms"),
        "waiting when acknowledged": Quantity(queue),
        "acknowledged before accept()": Quantity(acknowledged - SYN_BYTES, "B"),
        "segments of accept()": Quantity(len(after) - before),
    }


def by_hand(trial: Trial, listener: socket.socket, capture: Capture, observation: Observation) -> None:
    """A client that holds back its final ACK, so that the state between can be seen."""
    begun = time.time()
    states = [state(trial, begun, "before the SYN")]
    with ghost_socket(trial.client) as sending:
        ghost = Ghost(sending, (next(ghost_addresses()), 40_000), listener.getsockname())
        ghost.syn()
        time.sleep(SETTLE_SECONDS)
        answer = capture.wait_for("SYN/ACK", lambda seen: seen.flags == "SYN/ACK")
        if not trial.parameter("held"):
            ghost.acknowledge(answer)
        time.sleep(QUICK_HELD_SECONDS if trial.quick else HELD_SECONDS)
        held = state(trial, begun, "the final ACK is held back")
        if trial.parameter("held"):
            ghost.acknowledge(answer)
        time.sleep(SETTLE_SECONDS)
        released = state(trial, begun, "the final ACK was sent")
    repeats = [seen.seconds - answer.seconds for seen in capture.segments if seen.flags == "SYN/ACK"][1:]
    predicted = retry_steps(0, QUICK_HELD_SECONDS if trial.quick else HELD_SECONDS)
    of_step = [repeat / step for repeat, step in zip(repeats, predicted, strict=False)]
    observation.notes = told([*states, held, released], capture.segments, begun)
    observation.metrics |= {
        "half-open while held": Quantity(held.half_open),
        "queue while held": Quantity(held.queue),
        "half-open after": Quantity(released.half_open),
        "queue after": Quantity(released.queue),
        "SYN/ACK repeats": Quantity(len(repeats)),
        "repeats predicted": Quantity(len(predicted)),
        "earliest of its step": Quantity(min(of_step, default=0)),
        "latest of its step": Quantity(max(of_step, default=0)),
    }


class State(NamedTuple):
    """Both queues at a moment of the handshake."""

    seconds: float
    half_open: int
    queue: int
    when: str


def state(trial: Trial, begun: float, when: str) -> State:
    """Both queues now."""
    now = time.time() - begun
    return State(now, half_open(trial.server, PORT), accept_queue(trial.server, PORT).length, when)


def is_three_way(segments: list[Segment]) -> bool:
    """SYN, SYN/ACK, ACK and nothing else, each acknowledging what the one before counts as."""
    if [seen.flags for seen in segments] != ["SYN", "SYN/ACK", "ACK"]:
        return False
    syn, answer, final = segments
    return (answer.acknowledges, final.acknowledges) == ((syn.sequence + 1) % WRAP, (answer.sequence + 1) % WRAP)


def told(states: list[State], segments: list[Segment], begun: float) -> list[str]:
    """Segments and states in the order in which they came, one a line."""
    lines = [
        (each.seconds, f"{each.when}: {each.half_open} half-open, {each.queue} in the accept queue") for each in states
    ]
    for seen in segments:
        arrow = "client ← server" if seen.source[1] == PORT else "client → server"
        payload = f", {seen.payload_bytes} B" if seen.payload_bytes else ""
        lines.append((seen.seconds - begun, f"{arrow}  {seen.flags}{payload}"))
    return [f"{seconds * 1000:10.2f} ms  {words}" for seconds, words in sorted(lines)]


def finished_before_accept(connect: float, accept: float, waiting: float, acknowledged: float) -> bool:
    """The server's kernel had acknowledged the request while nobody had accepted."""
    return connect + LATER_SECONDS * 1000 < accept and waiting == 1 and acknowledged >= len(REQUEST)


def from_queue_to_queue(*found: float) -> bool:
    """The connection is in the one queue while the ACK is held, and then in the other."""
    return found == (1, 0, 0, 1)


def repeated_on_steps(count: float, predicted: float, earliest: float, latest: float) -> bool:
    """There are as many repeats as predicted, each on its step."""
    return count == predicted and earliest >= 1 - EARLY_SHARE and latest <= 1 + LATE_SHARE


def connecting(*, at_once: bool = False, greeting: str = "", quick_ack: bool = True) -> Arm:
    """The client's kernel shakes hands."""
    return Arm(
        "connect()",
        parameters={"by hand": False, "at once": at_once, "greeting": greeting, "quick ack": quick_ack},
    )


def holding(*, held: bool = True) -> Arm:
    """A handshake made by hand."""
    return Arm("ACK held back", parameters={"by hand": True, "held": held})


PREDICT = (
    "The server calls accept() {seconds:g} s after the client's connect(). When does connect() return? Which of the "
    "three segments waits for accept()? Where is the connection meanwhile?"
)

EXPERIMENT = Experiment(
    name="handshake",
    chapter="connections",
    question="A client connects while the server is busy with other things. Who completes the handshake, and when?",
    predict=PREDICT.format(seconds=BUSY_SECONDS),
    quick_predict=PREDICT.format(seconds=QUICK_BUSY_SECONDS),
    arms=(connecting(), holding()),
    trial=trial,
    checks=(
        Check(
            "three-segments",
            "a connection is made by SYN, SYN/ACK and ACK, each acknowledging the one before",
            THREE_WAY,
            "these three, and nothing else, when connect() has returned",
            always("connect()", "three segments", least=1),
            timed=False,
            shows=("E1",),
        ),
        Check(
            "before-accept",
            "connect() returns, and what the client sends is acknowledged, while nobody has called accept()",
            KERNEL,
            f"{len(REQUEST)} B acknowledged while 1 connection waits in the accept queue; accept() more than "
            f"{LATER_SECONDS:g} s after connect()",
            every_trial(
                "connect()",
                "connect()",
                "accept()",
                "waiting when acknowledged",
                "acknowledged before accept()",
                holds=finished_before_accept,
            ),
            timed=False,
            shows=("E4",),
            corrects=theory.ACCEPT_ESTABLISHES,
        ),
        Check(
            "accept-sends-nothing",
            "accept() only takes a finished connection off the queue: no segment crosses the wire for it",
            KERNEL,
            "0 segments",
            always("connect()", "segments of accept()", most=0),
            timed=False,
            shows=("E5",),
        ),
        Check(
            "from-queue-to-queue",
            "between SYN and ACK the connection is half-open; the ACK moves it to the accept queue",
            SYN_RECV,
            "1 half-open and 0 accepted by the kernel while the ACK is held back; then 0 and 1",
            every_trial(
                "ACK held back",
                "half-open while held",
                "queue while held",
                "half-open after",
                "queue after",
                holds=from_queue_to_queue,
            ),
            timed=False,
            shows=("E2", "E3", "E4"),
        ),
        Check(
            "syn-ack-repeated",
            "while the ACK is missing, the kernel repeats its SYN/ACK after 1 s, and after twice as long each time",
            REPEATS,
            "as many repeats as predicted for the time of the trial, "
            f"each from its step (1, 3, 7 … s) to {LATE_SHARE:.0%} after it",
            every_trial(
                "ACK held back",
                "SYN/ACK repeats",
                "repeats predicted",
                "earliest of its step",
                "latest of its step",
                holds=repeated_on_steps,
            ),
            timed=True,
        ),
    ),
    controls=(
        Control(
            "ack-saved",
            "the client saves its ACK for the first data (TCP_QUICKACK off)",
            (connecting(quick_ack=False),),
            ("three-segments",),
        ),
        Control(
            "accepts-at-once",
            "the server calls accept() at once",
            (connecting(at_once=True),),
            ("before-accept",),
        ),
        Control(
            "greeting",
            "the server says something as soon as it has accepted",
            (connecting(greeting="220 ready"),),
            ("accept-sends-nothing",),
        ),
        Control(
            "ack-sent",
            "the client does not hold back its ACK",
            (holding(held=False),),
            ("from-queue-to-queue", "syn-ack-repeated"),
        ),
    ),
    repetitions=5,
    explanation="""\
`connect()` sends a SYN. The server's kernel answers with SYN/ACK by itself and remembers the half-open connection
(`ss` shows it as `syn-recv`); the client's kernel sends the ACK, and `connect()` returns. At that ACK the server's
kernel moves the connection to the accept queue of the listening socket. The application has done nothing yet: it may be
busy, stopped, or stuck in another request.

The client cannot see the difference. It may send its request, and the server's kernel takes it into the receive queue
and acknowledges it, all before `accept()`. So *connected* does not mean that somebody attends to the connection, and a
health check that only connects proves no more than that the kernel lives.

`accept()` then takes the oldest connection off the queue and gives it a file descriptor. Nothing crosses the wire.

A client that holds back its final ACK leaves the connection half-open. The kernel takes its SYN/ACK for lost and
repeats it, after 1, 3, 7, 15 and 31 s, and forgets the connection after some 63 s (`tcp_synack_retries` = 5). The
handshake held back here was made by hand, from a raw socket: no kernel would leave one so.
""",
)
