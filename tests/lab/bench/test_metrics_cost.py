"""The cost of watching: two servers that take turns, and what is made of their figures."""

from __future__ import annotations

import itertools
from contextlib import ExitStack

import pytest

from lab.bench import metrics_cost
from lab.bench import run as bench
from lab.bench.servers import Cores
from lab.load.wrk import WrkResult
from lab.peers import nginx

CORES = Cores(0, 1)


def test_ratio_is_the_median_of_the_pairs(monkeypatch):
    costs = iter([(10.5, 10.0), (12.0, 10.0), (21.0, 20.0)])

    def one_pair(*_):
        on, off = next(costs)
        return {"on": metrics_cost.Cost(on, 1.0), "off": metrics_cost.Cost(off, 0.0)}

    monkeypatch.setattr(metrics_cost, "one_pair", one_pair)
    watched = metrics_cost.watching("nodejs", CORES, 1.0, 3, lambda _: None)
    assert watched["ratio"] == {"median": pytest.approx(1.05), "min": 1.05, "max": 1.2, "unit": "1", "n": 3}
    assert watched["ratio_with_admin"]["median"] == pytest.approx(1.15)
    assert (watched["pairs"], watched["cpu_us_per_request_off"]["median"]) == (3, 10.0)


@pytest.mark.usefixtures("load_tools")
def test_both_are_loaded_about_as_much_and_never_at_once(monkeypatch):
    running, most, turns = set(), 0, itertools.count()
    one_turn = metrics_cost._one_turn

    def noted(process):
        nonlocal most
        running.add(process.pid)
        most = max(most, len(running))
        one_turn(process)
        running.discard(process.pid)
        next(turns)

    monkeypatch.setattr(metrics_cost, "_one_turn", noted)
    with nginx.start() as one, nginx.start() as other:
        first, second = metrics_cost.take_turns([one.url, other.url], 4.0, bench.pick_cores())
    assert min(first.requests, second.requests) > max(first.requests, second.requests) / 4
    assert most == 1
    assert next(turns) > 5


@pytest.mark.usefixtures("load_tools")
def test_unwatched_server_that_stops_answering_stops_the_measurement():
    with nginx.start() as one, ExitStack() as stack:
        other = stack.enter_context(nginx.start())
        url = other.url
        stack.close()
        with pytest.raises((bench.BenchError, metrics_cost.wrk.WrkError)):
            metrics_cost.take_turns([one.url, url], 1.0, bench.pick_cores())


def test_failed_requests_are_no_figure(monkeypatch):
    monkeypatch.setattr(metrics_cost.wrk, "started", lambda *_, **__: ExitStack())
    monkeypatch.setattr(ExitStack, "send_signal", lambda *_: None, raising=False)
    monkeypatch.setattr(ExitStack, "poll", lambda _: 0, raising=False)
    results = iter([WrkResult(100, 1.0, 1.0, 1.0, 0), WrkResult(100, 1.0, 1.0, 1.0, 3)])
    monkeypatch.setattr(metrics_cost.wrk, "finish", lambda *_: next(results))
    with pytest.raises(bench.BenchError, match="second: 3 of 100"):
        metrics_cost.take_turns(["first", "second"], 1.0, CORES)


@pytest.mark.usefixtures("load_tools")
def test_short_real_pair():
    costs = metrics_cost.one_pair("nodejs", bench.pick_cores(), 2.0)
    assert costs["off"].admin == 0 < costs["on"].admin
    assert 0 < costs["off"].serving < 1000
