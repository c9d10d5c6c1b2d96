"""hot-connections: the mean of several connections is that of their requests."""

from lab.experiments.hot_connections import APART, CONNECTIONS, WORKERS, mean_of
from lab.load.plan import StreamResult


def test_mean_of_streams_counts_each_request_once():
    slow, quick = StreamResult("slow", requests=1, mean_seconds=0.4), StreamResult("q", requests=3, mean_seconds=0.1)
    assert round(mean_of([slow, quick]), 6) == 0.175


def test_hot_ones_apart_are_as_many_and_come_to_all_workers_in_turn():
    together, apart = (range(0, CONNECTIONS, period) for period in (WORKERS, APART))
    assert len(together) == len(apart) == WORKERS
    assert {number % WORKERS for number in together} == {0}
    assert {number % WORKERS for number in apart} == set(range(WORKERS))
