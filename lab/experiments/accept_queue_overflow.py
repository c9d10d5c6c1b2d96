"""Accept queue: how many finished connections wait for `accept()`, and what does the one too many see?"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from typing import TYPE_CHECKING

from lab.experiments import theory
from lab.harness.checks import shown
from lab.harness.experiment import Check, Control, Experiment, Finding
from lab.harness.observation import Arm, Observation, Quantity
from lab.harness.trial import TrialError, looking
from lab.sandbox.sockets import accept_queue
from lab.sandbox.wire import Ghost, Segment, capturing, ghost_addresses, ghost_socket, retry_steps, route_ghosts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.harness.experiment import Results
    from lab.harness.trial import Trial
    from lab.sandbox.wire import Capture

PORT = 8000
ROOMY_BACKLOG = 64
TOO_MANY = 3
"""Clients beyond those that a full queue holds."""
QUICK_ROOM_SECONDS, ROOM_SECONDS = 0.5, 4.5
"""Moment at which the server begins to accept: between two retries, so that the next one finds room."""
LOOK_SECONDS = 0.05
SETTLE_SECONDS = 0.1
"""Far longer than a packet takes, far shorter than a retry."""
LATE_SHARE = 0.1
DEADLINE_SECONDS = 12.0

LINEAR = "net.ipv4.tcp_syn_linear_timeouts"
"""Kernels before 6.5 have no such setting: with them, the wait is doubled from the first retry on."""
USUAL_LINEAR_RETRIES = 4
"""The setting's default."""
SOMAXCONN, ABORT_ON_OVERFLOW = "net.core.somaxconn", "net.ipv4.tcp_abort_on_overflow"

FULL = "Linux, sock.h: sk_acceptq_is_full: length > limit; listen(2): the limit is min(backlog, somaxconn)"
COUNTED = "Linux, tcp_input.c: tcp_conn_request and tcp_ipv4.c: tcp_v4_syn_recv_sock count both, one beside the other"
RETRIES = "Linux, tcp_timer.c: tcp_retransmit_timer; ip-sysctl: tcp_syn_linear_timeouts"
ABORT = "Linux, tcp_minisocks.c: tcp_check_req; ip-sysctl: tcp_abort_on_overflow"


def trial(trial: Trial) -> Observation:
    """Fill the queue of a server that does not accept, knock on it in two ways, then accept after all."""
    observation = Observation()
    room = room_seconds(quick=trial.quick)
    linear = linear_timeouts(trial)
    route_ghosts(trial.server, trial.client)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(trial.server.socket())
        listener.bind((trial.server.address, PORT))
        listener.listen(trial.parameter("backlog"))
        capture = stack.enter_context(capturing(trial.server, "server0"))
        sending = stack.enter_context(ghost_socket(trial.client))
        ghost = Ghost(sending, (next(ghost_addresses()), 40_000), listener.getsockname())

        stack.enter_context(watched(trial, observation))
        ghost.syn()
        for _ in range(trial.parameter("clients") - TOO_MANY):
            stack.enter_context(trial.connect(ghost.server))
        time.sleep(SETTLE_SECONDS)
        begun = time.monotonic()
        late = [stack.enter_context(knocking(trial, ghost.server)) for _ in range(TOO_MANY)]
        ghost.acknowledge(capture.wait_for("SYN/ACK", lambda seen: is_answer_to(ghost, seen)))
        left = begun + room - time.monotonic()
        if left < 0:
            raise TrialError("the machine stood still for longer than the queue was to stay full: run it again")
        time.sleep(left)
        observation.metrics |= refusals(trial, capture, ghost)
        times = connect_times(listener, late, begun, stack)
        observation.notes = [*story(capture.segments, ghost)]
        observation.metrics |= resets(capture, ghost)
    observation.metrics |= {
        "predicted": Quantity(next_step(linear, room), "s"),
        "first late connect": Quantity(min(times), "s"),
        "last late connect": Quantity(max(times), "s"),
    }
    return observation


def room_seconds(*, quick: bool) -> float:
    """Moment at which the server begins to accept."""
    return QUICK_ROOM_SECONDS if quick else ROOM_SECONDS


def next_step(linear: int, room: float) -> float:
    """Moment of the first retry that finds room."""
    return next(step for step in retry_steps(linear, DEADLINE_SECONDS) if step > room)


def linear_timeouts(trial: Trial) -> int:
    """Retries of the client that come a second apart, before waits are doubled; set as the arm wants it."""
    usual = trial.client.sysctl(LINEAR)
    if usual is None or trial.parameter("linear retries"):
        return usual or 0
    trial.client.set_sysctls({LINEAR: 0})
    return 0


def watched(trial: Trial, into: Observation) -> contextlib.AbstractContextManager[None]:
    """Meanwhile note the length of the accept queue as a series. There is no server here whose page would tell it."""
    lengths = into.series.setdefault("accept queue", [])
    return looking(lambda now: lengths.append((now, accept_queue(trial.server, PORT).length)), LOOK_SECONDS)


def knocking(trial: Trial, address: tuple[str, int]) -> socket.socket:
    """A client whose connect() is under way."""
    client = trial.client.socket()
    client.setblocking(False)
    client.connect_ex(address)
    return client


def connect_times(
    listener: socket.socket, clients: list[socket.socket], begun: float, stack: contextlib.ExitStack
) -> list[float]:
    """Accept all that come, and note after how many seconds each client found itself connected."""
    waiting = {client.fileno(): client for client in clients}
    poll, times = select.poll(), []
    poll.register(listener, select.POLLIN)
    for descriptor in waiting:
        poll.register(descriptor, select.POLLOUT)
    while waiting and time.monotonic() < begun + DEADLINE_SECONDS:
        for descriptor, _ in poll.poll(1000):
            if descriptor in waiting:
                poll.unregister(descriptor)
                error = waiting.pop(descriptor).getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if error:
                    raise TrialError(f"a late client was not connected: {os.strerror(error)}")
                times.append(time.monotonic() - begun)
            else:
                stack.enter_context(listener.accept()[0])
    return times + [DEADLINE_SECONDS] * len(waiting)


def is_answer_to(ghost: Ghost, seen: Segment) -> bool:
    """True if it is the server's SYN/ACK to the ghost."""
    return (seen.destination, seen.flags) == (ghost.address, "SYN/ACK")


def refusals(trial: Trial, capture: Capture, ghost: Ghost) -> dict[str, Quantity]:
    """Before anybody has accepted: the queue, what the kernel has counted, and what of that was on the wire."""
    queue, counters = accept_queue(trial.server, PORT), trial.server.counters()
    return {
        "queue": Quantity(queue.length),
        "limit": Quantity(queue.limit),
        "ListenOverflows": Quantity(counters["ListenOverflows"]),
        "ListenDrops": Quantity(counters["ListenDrops"]),
        "refused": Quantity(unanswered(capture.segments, ghost)),
    }


def resets(capture: Capture, ghost: Ghost) -> dict[str, Quantity]:
    """The server's RSTs: to a SYN they acknowledge it, to the ghost's ACK they do not."""
    segments = list(capture.segments)
    to_ghost = [seen for seen in segments if seen.destination == ghost.address]
    return {
        "RST to SYN": Quantity(sum(seen.flags == "RST/ACK" for seen in segments)),
        "RST to ACK": Quantity(sum(seen.flags == "RST" for seen in to_ghost)),
    }


def unanswered(segments: list[Segment], ghost: Ghost) -> int:
    """SYNs that no SYN/ACK followed, and the ghost's ACK, which comes when the queue is full."""
    answered = {seen.destination for seen in segments if seen.flags == "SYN/ACK"}
    syns = sum(seen.flags == "SYN" and seen.source not in answered for seen in segments)
    return syns + sum(seen.flags == "ACK" and seen.source == ghost.address for seen in segments)


def story(segments: list[Segment], ghost: Ghost) -> list[str]:
    """The segments of the ghost and of the last client, one a line."""
    last = [seen.source for seen in segments if seen.flags == "SYN"][-1]
    begun = segments[0].seconds
    return [
        f"{seen.seconds - begun:9.4f} s  {who} {'→' if ours == seen.source else '←'} server  {seen.flags}"
        for seen in segments
        for who, ours in (("half-open client", ghost.address), ("last client", last))
        if ours in {seen.source, seen.destination}
    ]


def arm(
    name: str,
    backlog: int,
    limit: int,
    sysctls: Mapping[str, int | str] | None = None,
    *,
    linear_retries: bool = True,
) -> Arm:
    """A listener, and as many clients as fill a queue of `limit`, and some more.

    The first retry comes after a second whether or not the next ones are linear, and the quick form sees no other.
    """
    parameters = {"backlog": backlog, "clients": limit + 1 + TOO_MANY, "linear retries": linear_retries}
    return Arm(name, "", {}, sysctls or {}, parameters=parameters, quick=linear_retries)


ARMS = (
    arm("backlog 4", 4, 4),
    arm("backlog 16", 16, 16),
    arm("somaxconn 4", 128, 4, sysctls={SOMAXCONN: 4}),
    arm("abort", 4, 4, sysctls={ABORT_ON_OVERFLOW: 1}),
    arm("exponential", 4, 4, linear_retries=False),
)
ROOMY = (
    arm("backlog 4", ROOMY_BACKLOG, 4),
    arm("backlog 16", ROOMY_BACKLOG, 16),
    arm("somaxconn 4", ROOMY_BACKLOG, 4),
    arm("abort", ROOMY_BACKLOG, 4, sysctls={ABORT_ON_OVERFLOW: 1}),
    arm("exponential", ROOMY_BACKLOG, 4, linear_retries=False),
)


def holds_one_more(results: Results) -> Finding:
    """In every trial the queue is one longer than its limit."""
    found = {
        name: {(o.metrics["queue"].value, o.metrics["limit"].value) for o in result.observations}
        for name, result in results.items()
    }
    text = ", ".join(f"{name}: {q:.0f} of {n:.0f}" for name, pairs in found.items() for q, n in sorted(pairs))
    return Finding(text, all(queue == limit + 1 for pairs in found.values() for queue, limit in pairs))


def counted_twice(results: Results) -> Finding:
    """In every trial the counters agree with one another and with what was captured."""
    names = ("ListenOverflows", "ListenDrops", "refused")
    text = "; ".join(
        f"{name}: " + ", ".join(f"{metric} {shown(result.summary(metric))}" for metric in names)
        for name, result in results.items()
    )
    trials = [[o.metrics[metric].value for metric in names] for r in results.values() for o in r.observations]
    return Finding(text, all(overflows and overflows == drops == refused for overflows, drops, refused in trials))


def on_the_step(results: Results) -> Finding:
    """In every trial each late client connects at the first retry that finds room."""
    text = "; ".join(
        f"{name}: {shown(result.summary('first late connect'))} to {shown(result.summary('last late connect'))}"
        f", predicted {shown(result.summary('predicted'))}"
        for name, result in results.items()
    )
    trials = [o.metrics for result in results.values() for o in result.observations]
    return Finding(
        text,
        all(
            trial["predicted"].value
            <= trial["first late connect"].value
            <= trial["last late connect"].value
            <= trial["predicted"].value * (1 + LATE_SHARE)
            for trial in trials
        ),
    )


def aborts_the_ack_only(results: Results) -> Finding:
    """RST answers the ACK, in that arm alone; never a SYN."""
    to_ack = {name: set(result.values("RST to ACK")) for name, result in results.items()}
    to_syn = {value for result in results.values() for value in result.values("RST to SYN")}
    text = ", ".join(f"{name}: {max(values):.0f}" for name, values in to_ack.items())
    expected = {name: {1.0 if name == "abort" else 0.0} for name in results}
    return Finding(f"RST to the ACK: {text}; to SYNs: {max(to_syn):.0f}", to_ack == expected and to_syn == {0.0})


EXPLANATION = """\
The kernel finishes handshakes by itself and puts the connections into the listener's accept queue; `accept()` only
takes one out. Its limit is the backlog given to `listen()`, capped at `net.core.somaxconn`. The kernel calls it full
when it is *longer* than that, so it holds one more. `ss -ltn` shows length and limit as Recv-Q and Send-Q.

A SYN that meets a full queue is dropped. The server says nothing, so its client cannot tell a full queue from a lost
packet, and does what it does for a lost packet: it sends the SYN again, later. The server here has room after
{room:g} s, and the client does not learn of it. It connects at its next retry: {steps}. So an overflow
shows as connect times on steps of whole seconds, and nothing in the application's own figures shows it at all.

A queue can also fill between the SYN/ACK and the final ACK. The client believes itself connected then. Usually the
kernel drops that ACK too, and repeats its SYN/ACK until there is room; `tcp_abort_on_overflow=1` answers it with RST.
It does so for that ACK only: a SYN that meets a full queue is still dropped in silence.
"""


def predict(*, quick: bool) -> str:
    """The question before the run, with its own figures."""
    return (
        "The backlog is 4. How many clients connect? When does a further one connect if the server begins to accept "
        f"after {room_seconds(quick=quick)} seconds? What changes with tcp_abort_on_overflow?"
    )


def explanation(*, quick: bool) -> str:
    """The reasons, with the run's own figures."""
    room = room_seconds(quick=quick)
    linear, doubled = (next_step(retries, room) for retries in (USUAL_LINEAR_RETRIES, 0))
    steps = f"after {linear:.0f} s"
    if linear != doubled:
        steps += (
            f" where the first retries\nare a second apart (Linux 6.5 and later), after {doubled:.0f} s where each "
            "waits twice as long as the one before"
        )
    return EXPLANATION.format(room=room, steps=steps)


EXPERIMENT = Experiment(
    name="accept-queue-overflow",
    chapter="connections",
    question="The server does not accept. How many connections does the kernel finish for it, and what does the next "
    "client see?",
    predict=predict(quick=False),
    quick_predict=predict(quick=True),
    arms=ARMS,
    trial=trial,
    checks=(
        Check(
            "one-more-than-the-limit",
            "the queue takes min(backlog, somaxconn) + 1 connections, and ss shows n + 1 of n",
            FULL,
            "length = limit + 1 in every trial",
            holds_one_more,
            timed=False,
            shows=("E2", "E9"),
        ),
        Check(
            "each-refusal-counted",
            "each SYN and each final ACK that meets a full queue counts as an overflow, and as a drop",
            COUNTED,
            "ListenOverflows = ListenDrops = segments refused > 0 in every trial",
            counted_twice,
            timed=False,
            shows=("E7", "E9"),
        ),
        Check(
            "on-the-retry-step",
            "a client that was refused connects when its SYN is sent again and finds room, not when there is room",
            RETRIES,
            f"connect time from the predicted step to {LATE_SHARE:.0%} above it",
            on_the_step,
            timed=True,
            corrects=theory.SYN_RETRIES,
        ),
        Check(
            "abort-answers-the-ack",
            "tcp_abort_on_overflow answers a final ACK that meets a full queue; a SYN is still dropped in silence",
            ABORT,
            "one RST to the ACK in the arm `abort`, none in the others, and none to a SYN",
            aborts_the_ack_only,
            timed=False,
            corrects=theory.ABORT_ON_OVERFLOW,
        ),
    ),
    controls=(
        Control(
            "roomy",
            f"a backlog of {ROOMY_BACKLOG}, and somaxconn as it was: these clients do not fill that queue",
            ROOMY,
            ("one-more-than-the-limit", "each-refusal-counted", "on-the-retry-step", "abort-answers-the-ack"),
        ),
        Control(
            "no-abort",
            "the queue is as full, and tcp_abort_on_overflow is 0",
            (arm("abort", 4, 4, sysctls={ABORT_ON_OVERFLOW: 0}),),
            ("abort-answers-the-ack",),
        ),
    ),
    repetitions=3,
    explanation=explanation(quick=False),
    quick_explanation=explanation(quick=True),
)
