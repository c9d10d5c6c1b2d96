"""Sampling, and the two waits that only the kernel knows."""

import random

import pytest

from services.metrics import slots
from services.metrics.sampling import Sampler

SECOND = 1_000_000_000
"""Some jiffies: the kernel counts in them, and on a busy machine not each as it passes."""


@pytest.fixture
def block():
    return slots.Slots(1).worker(0)


def count(block, stage):
    """Weights in the slots, which a loop brings there now and then: `Sampler.count`."""
    return sum(block[slot] for slot in slots.STAGE_BUCKETS[stage])


class Loop:
    """What an event loop does with each request: counts it, and times it when its turn has come."""

    def __init__(self, block, rate, seed=None):
        self.sampler = Sampler(block, rate, seed)
        self.requests = 0

    def serve(self, requests, duration_ns=1000):
        """How many of them were samples."""
        samples = 0
        for _ in range(requests):
            self.requests += 1
            if self.sampler.gap <= 0:
                self.sampler.record(("service", duration_ns, self.sampler.take(self.requests)))
                self.sampler.draw()
                samples += 1
            else:
                self.sampler.gap -= 1
        self.sampler.publish()
        return samples


def test_sampler_weights_add_up_to_the_requests(block):
    loop = Loop(block, "32", seed=1)
    samples = loop.serve(100_000)
    # All but those since the last sample, of which there are at most 62.
    assert 100_000 - 62 <= count(block, "service") <= 100_000
    # The distance is uniform in 1 … 63: standard deviation 18.2, so 32 ± 0.33 for the mean of 3,125 of them.
    assert 100_000 / samples == pytest.approx(32, abs=1.3)


def test_sampler_weights_add_up_to_the_last_request_when_it_is_a_sample(block):
    loop = Loop(block, "8", seed=5)
    loop.serve(1000)
    while loop.sampler.gap > 0:
        loop.serve(1)
    loop.serve(1)
    assert count(block, "service") == loop.requests


def test_sampler_estimates_a_share_within_its_error(block):
    loop = Loop(block, "32", seed=2)
    chance = random.Random(3)
    slow = 0
    for _ in range(100_000):
        is_slow = chance.random() < 0.3
        slow += is_slow
        loop.serve(1, 2 * SECOND if is_slow else 1000)
    over = sum(block[slot] for slot in slots.STAGE_BUCKETS["service"][-10:])
    assert over == pytest.approx(slow, rel=0.15)  # 4 standard deviations of 3,125 samples, weights included


def test_sampler_does_not_alias_with_round_robin(block):
    sampler = Sampler(block, "32", seed=4)
    turns = [0, 0, 0, 0]
    for number in range(100_000):
        if sampler.gap <= 0:
            turns[number % 4] += sampler.take(number + 1)
            sampler.draw()
        else:
            sampler.gap -= 1
    assert min(turns) > 0.8 * max(turns)


def test_sampler_for_connections_weighs_each(block):
    sampler = Sampler(block, "4", seed=6)
    weights = []
    for _ in range(10_000):
        if sampler.connection_gap <= 0:
            weights.append(sampler.take_connection())
        sampler.connection_gap -= 1
    assert weights[0] == 1
    assert sum(weights) == pytest.approx(10_000, abs=7)
    assert len(weights) == pytest.approx(2500, rel=0.1)


def test_sampler_auto_takes_every_request_until_there_are_many(block):
    loop = Loop(block, "auto", seed=7)
    loop.sampler.tick(0, SECOND)
    assert loop.serve(900) == 900
    loop.sampler.tick(900, 2 * SECOND)
    assert loop.serve(1000) == 1000
    samples = loop.serve(32_000)  # a sudden load does not have to wait for the second's end
    assert samples < 1200
    loop.sampler.tick(33_900, 3 * SECOND)
    assert loop.serve(3200) < 200


def test_sampler_auto_takes_no_more_than_a_hundred_a_second(block):
    loop = Loop(block, "auto", seed=12)
    loop.sampler.tick(0, SECOND)
    loop.sampler.tick(80_000, 2 * SECOND)
    # Distances are uniform in 1 … 1599: standard deviation 462, so 100 ± 6 samples of 80,000 requests.
    assert loop.serve(80_000) == pytest.approx(100, abs=24)


def test_sampler_auto_stays_as_it_is_between_the_limits(block):
    loop = Loop(block, "auto", seed=8)
    loop.sampler.tick(0, SECOND)
    loop.sampler.tick(850, 2 * SECOND)
    assert loop.serve(100) == 100
    loop.sampler.tick(5000, 3 * SECOND)
    loop.sampler.tick(5850, 4 * SECOND)
    assert loop.serve(320) < 60


def test_sampler_auto_after_the_load_sees_the_next_request(block):
    loop = Loop(block, "auto", seed=9)
    loop.sampler.tick(0, SECOND)
    loop.sampler.tick(10_000, 2 * SECOND)
    while loop.sampler.gap < 20:
        loop.serve(1)
    loop.sampler.tick(10_010, 3 * SECOND)
    assert loop.serve(10) == 10
    assert count(block, "service") == loop.requests


def test_sampler_first_tick_does_not_take_an_old_total_for_load(block):
    loop = Loop(block, "auto", seed=10)
    loop.sampler.tick(1_000_000, SECOND)
    assert loop.serve(50) == 50


def test_sampler_auto_adapts_to_connections_of_their_own(block):
    loop = Loop(block, "auto", seed=11)
    loop.sampler.tick(0, SECOND)
    assert connect(loop.sampler, 1000) == 1000
    loop.sampler.tick(0, 2 * SECOND)
    assert connect(loop.sampler, 33_000) < 2300  # the second's end is not waited for
    loop.sampler.tick(0, 3 * SECOND)
    assert 3 < connect(loop.sampler, 3200) < 50
    assert loop.serve(10) == 10
    while loop.sampler.connection_gap < 20:
        connect(loop.sampler, 1)
    loop.sampler.tick(10, 60 * SECOND)
    assert connect(loop.sampler, 10) == 10


def connect(sampler, connections):
    """How many of them were samples."""
    samples = 0
    for _ in range(connections):
        if sampler.connection_gap <= 0:
            sampler.take_connection()
            samples += 1
        sampler.connection_gap -= 1
    return samples


def test_sampler_off_never_samples(block):
    loop = Loop(block, "off")
    loop.sampler.tick(0, SECOND)
    assert loop.serve(10_000) == connect(loop.sampler, 10_000) == 0
    loop.sampler.tick(10_000, 2 * SECOND)
    assert loop.serve(10) == 0


@pytest.mark.parametrize("rate", ["0", "-1", "often", "1.5", ""])
def test_sampler_refuses_a_rate_that_is_none(block, rate):
    with pytest.raises(ValueError, match="sample rate"):
        Sampler(block, rate)


@pytest.mark.parametrize(
    ("duration_ns", "bucket"),
    [(-5, 0), (0, 0), (10_000, 0), (10_001, 1), (11_000, 1), (11_001, 2), (10 * SECOND, -2), (10 * SECOND + 1, -1)],
)
def test_record_puts_a_time_under_the_first_bound_that_is_not_below_it(block, duration_ns, bucket):
    sampler = Sampler(block, "1")
    sampler.record(("write", duration_ns, 7))
    sampler.publish()
    assert block[slots.STAGE_BUCKETS["write"][bucket]] == count(block, "write") == 7
    assert block[slots.STAGE_SUM_NS["write"]] == 7 * max(0, duration_ns)
