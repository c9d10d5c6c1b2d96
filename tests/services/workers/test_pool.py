"""A pool of workers: which one gets the next connection or request, and what becomes of a dead one's."""

from __future__ import annotations

from itertools import islice

import pytest

from services.messages import Command
from services.metrics import slots
from services.net.connection import Connection
from services.net.job import Job
from services.workers.handle import Loss
from services.workers.jobs import JobQueues
from services.workers.pool import Pool


class FakeHandle:
    """As much of a handle as a pool needs."""

    patience_ns = 0

    def __init__(self, index: int) -> None:
        self.index = index
        self.is_serving = True
        self.waiting = self.woken = 0
        self.loss = Loss(0, [])

    def wake(self) -> None:
        self.woken += 1

    def reap(self) -> Loss:
        return self.loss


class FakeConnection(Connection):
    """A connection that only notes why it was closed."""

    __slots__ = ("closed_for",)

    def close(self, reason: str) -> None:
        self.closed_for = reason


@pytest.fixture
def queues() -> JobQueues:
    blocks = slots.Slots(3)
    return JobQueues([blocks.worker(index) for index in range(3)], blocks.main)


@pytest.fixture
def pool(queues) -> Pool:
    return Pool([FakeHandle(index) for index in range(3)], queues)


def next_after_a_hand_over(pool: Pool, number: int, taken: set[int]) -> list[int]:
    """Which gets each of so many connections, of workers of which these take theirs at once."""
    found = []
    for worker in islice(pool.least_waiting(), number):
        worker.waiting += worker.index not in taken
        found.append(worker.index)
    return found


def test_workers_that_keep_up_get_connections_in_turn(pool):
    assert next_after_a_hand_over(pool, 7, taken={0, 1, 2}) == [0, 1, 2, 0, 1, 2, 0]


def test_worker_that_takes_none_gets_one_and_is_passed_over(pool):
    assert next_after_a_hand_over(pool, 7, taken={0, 2}) == [0, 1, 2, 0, 2, 0, 2]


def test_workers_that_take_none_all_get_as_many(pool):
    assert next_after_a_hand_over(pool, 6, taken=set()) == [0, 1, 2, 0, 1, 2]


def test_dead_worker_is_handed_none_while_a_neighbour_serves(pool):
    pool[1].is_serving = False
    assert next_after_a_hand_over(pool, 4, taken={0, 1, 2}) == [0, 2, 0, 2]


def make_job() -> Job:
    return Job(FakeConnection(None), Command("get"))


def next_six(pool: Pool) -> list[int]:
    return [worker.index for worker in islice(pool.in_turn(), 6)]


def test_in_turn_passes_over_those_that_do_not_serve(pool) -> None:
    assert next_six(pool) == [0, 1, 2, 0, 1, 2]
    pool[1].is_serving = False
    assert next_six(pool) == [0, 2, 0, 2, 0, 2]
    assert [worker.index for worker in pool.serving()] == [0, 2]


def test_in_turn_and_serving_are_all_where_none_serves(pool) -> None:
    for worker in pool:
        worker.is_serving = False
    assert next_six(pool) == [0, 1, 2, 0, 1, 2]
    assert list(pool.serving()) == list(pool)


def test_idle_worker_is_woken_for_a_job_and_no_other(pool, queues) -> None:
    for index in (0, 1):
        queues.take(index)  # idle
    pool.last_idle()(make_job())
    pool.wake_all()
    assert [worker.woken for worker in pool] == [0, 1, 0]


def test_job_of_a_dead_worker_is_anyones(pool, queues) -> None:
    job = make_job()
    pool.chosen(lambda _job: 0)(job)
    pool[0].loss = Loss(4, queues.lose(0))
    assert pool.reap(pool[0]) == 4
    assert queues.take(2) is job


def test_jobs_fail_once_every_worker_is_given_up(pool) -> None:
    job = make_job()
    for worker in pool[:2]:
        pool.give_up(worker)
    pool.last_idle()(job)
    pool.wake_all()
    assert not hasattr(job.connection, "closed_for")
    pool.give_up(pool[2])
    pool.wake_all()
    assert job.connection.closed_for == "worker_died"
