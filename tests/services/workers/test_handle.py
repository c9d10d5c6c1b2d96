"""Main's end of a worker: when it counts as dead, and what is counted when it is."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest

from services.messages import Command
from services.metrics import slots
from services.net.connection import Connection
from services.net.job import Job
from services.workers.handle import Handle, Loss
from services.workers.jobs import JobQueues


class FakeHandle(Handle):
    """A worker of no kind, whose life a test decides."""

    kind, patience_ns = "fake", 0
    ended = ended_well = False
    begun: Job | None = None
    sends = True
    gone = False

    def order_drain(self) -> None:
        self._drain_ordered = True

    def has_ended(self) -> bool:
        return self.ended

    def _ended_well(self) -> bool:
        return self.ended_well

    def _take_begun(self) -> list[Job]:
        return [] if self.begun is None else [self.begun]

    def _send(self, connection: Connection) -> bool:
        return self.sends

    def _is_gone(self) -> bool:
        return self.gone

    def how_it_ended(self) -> str:
        return "a test"

    def kill(self) -> None: ...
    def wake(self) -> None: ...
    def close(self) -> None: ...
    def _launch(self, work: object, args: object) -> None: ...
    def _receive_what_is_left(self) -> None: ...
    def _close_ends(self) -> None: ...


class FakeConnection(Connection):
    """A connection that only notes why it was closed."""

    __slots__ = ("closed_for",)

    def close(self, reason: str) -> None:
        self.closed_for = reason


@pytest.fixture
def blocks() -> slots.Slots:
    return slots.Slots(1)


@pytest.fixture
def handle(blocks) -> FakeHandle:
    block = blocks.worker(0)
    loop = SimpleNamespace(block=blocks.main, accepted=[])
    handle = FakeHandle(0, block, None, None, loop, lambda: None, JobQueues([block], blocks.main))
    handle.start(print)
    return handle


def test_started_worker_is_neither_serving_nor_dead(handle) -> None:
    assert handle.block[slots.STATE] == slots.STARTING
    assert not handle.is_serving
    assert not handle.died()


@pytest.mark.parametrize(
    ("drain_ordered", "well", "died"), [(False, True, True), (False, False, True), (True, False, True), (True, True, False)]
)  # fmt: skip
def test_worker_died_unless_it_was_told_to_end_and_did_so_well(handle, drain_ordered, well, died) -> None:
    if drain_ordered:
        handle.order_drain()
    handle.ended, handle.ended_well = True, well
    assert handle.died() is died
    handle.reap()
    assert not handle.died()  # once is enough


def test_death_counts_what_nobody_has_closed(handle) -> None:
    block = handle.block
    block[slots.ACCEPTED], block[slots.HANDED_OFF], block[slots.PICKED_UP], block[slots.OPEN] = 3, 4, 2, 5
    block[slots.CLOSED["client"]] = 1
    assert handle.connections == 7
    assert handle.reap() == Loss(6, [])
    assert block[slots.CLOSED["worker_died"]] == 6
    assert handle.connections == 0


def test_second_death_counts_only_its_own(handle) -> None:
    handle.block[slots.ACCEPTED] = 3
    assert handle.reap().connections == 3
    handle.start(print)
    handle.block[slots.ACCEPTED] += 2
    assert handle.reap().connections == 2


def test_request_that_was_begun_fails_with_its_connection(handle) -> None:
    handle.begun = Job(FakeConnection(None), Command("get"))
    assert handle.reap().connections == 1
    assert handle.begun.connection.closed_for == "worker_died"


@pytest.mark.parametrize(
    ("state", "sends", "reason"), [(slots.SERVING, False, "queue_full"), (slots.CRASHED, True, "worker_died")]
)
def test_connection_that_cannot_be_handed_off_is_closed_and_counted(handle, blocks, state, sends, reason) -> None:
    handle.block[slots.STATE], handle.sends = state, sends
    ours, theirs = socket.socketpair()
    with theirs:
        handle.hand_off(Connection(ours))
        assert theirs.recv(1) == b""
    assert blocks.main[slots.CLOSED[reason]] == 1
    assert handle.connections == 0


def test_connection_for_a_worker_that_has_just_died_is_the_models_again(handle, blocks) -> None:
    handle.block[slots.STATE], handle.sends, handle.gone = slots.SERVING, False, True
    connection = Connection(None)
    handle.hand_off(connection)
    assert handle._loop.accepted == [connection]
    assert not handle.is_serving
    assert handle.connections == sum(blocks.main[slot] for slot in slots.CLOSED.values()) == 0
