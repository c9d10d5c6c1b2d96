"""A quarter of an hour in memory, and no more; figures that mean what they say."""

from __future__ import annotations

import itertools
import json
import sys
from dataclasses import replace

import pytest
from support.fake_admin import FakeModel, FakeWorker, serve_fake
from support.servers import wait_until

from lab import settings
from lab.console import history as keeping
from lab.console import live
from lab.console.history import History
from lab.console.live import Live
from lab.top.readings import Quantiles, Queue, Reading, WorkerReading
from lab.top.samples import Sample, Source, take

SOURCE = Source("nginx", "http://127.0.0.1:1")


def sample_at(seconds, requests=0):
    """What a model with one worker and so many requests would have said."""
    return Sample(
        SOURCE, seconds, state={"model": "nginx", "pid": 1, "options": {"wakeup": "herd"}, "workers": [{"worker": "0", "state": "idle"}]},
        series={"lab_requests_total": [({"worker": "0"}, float(requests))]},
    )  # fmt: skip


def fast_forward(history, seconds, rate=100):
    """Samples of so many seconds, without waiting for them."""
    for half_second in range(int(seconds / keeping.WATCHED_SECONDS)):
        now = half_second * keeping.WATCHED_SECONDS
        history.clock_now = now
        history.note([sample_at(now, requests=int(now * rate))])


@pytest.fixture
def history():
    made = History([SOURCE], clock=lambda: made.clock_now)
    made.clock_now = 0.0
    return made


def size_of(thing, seen=None):
    """Bytes of an object and of all that it holds."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return 0
    seen.add(id(thing))
    held = list(itertools.chain.from_iterable(thing.items())) if isinstance(thing, dict) else []
    if isinstance(thing, (list, tuple, set, frozenset)) or type(thing).__name__ == "deque":
        held = list(thing)
    held += [getattr(thing, name) for name in getattr(type(thing), "__slots__", ()) if hasattr(thing, name)]
    held += [vars(thing)] if hasattr(thing, "__dict__") and not isinstance(thing, type) else []
    return sys.getsizeof(thing) + sum(size_of(one, seen) for one in held)


def test_memory_stays_the_same_after_a_quarter_of_an_hour(history):
    fast_forward(history, keeping.KEPT_SECONDS + 60)
    once = size_of(history.moments) + size_of(history._samples)
    assert len(history.moments) == keeping.KEPT_SECONDS
    history.moments.clear()
    history._samples.clear()
    fast_forward(history, 4 * keeping.KEPT_SECONDS)
    four_times = size_of(history.moments) + size_of(history._samples)
    assert four_times < once * 1.05
    assert once < 2_000_000
    assert history.moments[-1].at - history.moments[0].at == pytest.approx(keeping.KEPT_SECONDS, abs=2)


def test_rates_of_a_moment_are_those_of_the_last_seconds(history):
    fast_forward(history, 30, rate=100)
    (latest,) = history.moments[-1].figures.values()
    assert latest[list(keeping.SERIES).index("requests")] == pytest.approx(100, rel=0.01)


def test_only_what_is_new_is_given_to_who_has_the_rest(history):
    fast_forward(history, 30)
    everything = json.loads(Live(history).series(0.0))["moments"]
    rest = json.loads(Live(history).series(everything[-3][0]))["moments"]
    assert rest == everything[-2:]


def reading(rates, **figures):
    workers = [
        WorkerReading(str(place), "process", 1, "idle", 0, 0, rate, None, None, None)
        for place, rate in enumerate(rates)
    ]
    return Reading("nginx", "", up=True, workers=workers, **figures)


@pytest.mark.parametrize(
    ("rates", "fairness", "imbalance"),
    [([5, 5, 5, 5], 1.0, 1.0), ([20, 0, 0, 0], 0.25, 4.0), ([3, 1], 0.8, 1.5), ([0, 0], None, None), ([7], None, None)],
)
def test_fairness_and_imbalance_are_those_of_the_workers(rates, fairness, imbalance):
    assert keeping.jain(reading(rates)) == (None if fairness is None else pytest.approx(fairness))
    assert keeping.imbalance(reading(rates)) == (None if imbalance is None else pytest.approx(imbalance))


def series_of(one):
    return dict(zip(keeping.SERIES, keeping.figures_of(one), strict=True))


def test_p50_and_p99_are_each_of_their_slowest_stage():
    stages = {"service": Quantiles(0.02, 0.03), "kernel_wait": Quantiles(0.001, 0.1), "write": None}
    found = series_of(reading([1, 1], stages=stages))
    assert (found["p50"], found["p99"], found["tail"]) == (0.02, 0.1, 5.0)
    nothing = series_of(reading([1, 1], stages={"write": None}))
    assert (nothing["p50"], nothing["p99"], nothing["tail"]) == (None, None, None)


@pytest.mark.parametrize(
    ("model", "options", "accepts", "p99"),
    [
        ("nginx", {}, 1.0, 0.02),
        ("memcached", {}, 1.0, 0.02),
        ("memcached", {}, 97.0, 3.0),  # a connection for each request
        ("ramcloud", {"dispatch": "request-fifo"}, 1.0, 2.0),
        ("ramcloud", {"dispatch": "connection"}, 1.0, 0.02),
        ("nodejs", {"scheduling": "round-robin"}, 1.0, 0.02),
    ],
)
def test_what_a_connection_meets_once_is_no_quantile_of_its_requests(model, options, accepts, p99):
    stages = {
        "accept_wait": Quantiles(1.0, 3.0),
        "dispatch_wait": Quantiles(1.0, 2.0),
        "service": Quantiles(0.01, 0.02),
    }
    figures = {"stages": stages, "options": options, "requests_per_second": 100.0, "accepts_per_second": accepts}
    assert series_of(replace(reading([50, 50], **figures), model=model))["p99"] == p99


def test_model_that_is_down_leaves_a_gap():
    assert set(keeping.figures_of(Reading("nginx", "", up=False, problem="connection refused"))) == {None}


def test_sampling_follows_a_model_down_and_up_again():
    model = FakeModel(workers={"main": FakeWorker(), "0": FakeWorker()})
    with serve_fake(model) as url:
        history = History([Source("nginx", url)])
        history.looked()
        history.start()
        try:
            wait_until(lambda: history.readings and history.readings[0].up)
            assert json.loads(Live(history).text())["models"]["nginx"]["up"]
        finally:
            history.close()
    history = History([Source("nginx", url)])
    history.note([take(history.sources[0])])
    history.note([take(history.sources[0])])
    (down,) = json.loads(Live(history).text())["models"].values()
    assert not down["up"]
    assert "lab up" in down["remedy"]


def test_another_model_in_its_place_is_a_model_that_is_down():
    history = History([Source("nginx", "http://127.0.0.1:1")])
    for seconds in (0, 1):
        history.note([replace(sample_at(seconds), state={**sample_at(0).state, "model": "apache"})])
    shown = json.loads(Live(history).text())["models"]["nginx"]
    assert (shown["up"], shown["problem"]) == (False, "apache answers in its place")
    assert series_of(history.lately[0]).keys() == {*keeping.SERIES}


def test_sample_that_cannot_be_read_does_not_end_the_sampling(monkeypatch, caplog):
    samples = [[sample_at(0)], "no samples", [sample_at(1, requests=10)]]
    monkeypatch.setattr(keeping.top, "sample", lambda *_: iter(samples))
    history = History([SOURCE])
    history._sample()
    assert history.number == 1
    assert "could not be read" in caplog.text


def test_history_without_new_samples_is_stale_and_says_how_old_it_is(history, monkeypatch):
    fast_forward(history, 2)
    assert not history.is_stale()
    now = keeping.time.monotonic() + keeping.STALE_SECONDS + 1
    monkeypatch.setattr(keeping.time, "monotonic", lambda: now)
    assert history.is_stale()
    assert json.loads(Live(history).text())["age"] > keeping.STALE_SECONDS
    history.note([sample_at(3)])
    assert not history.is_stale()
    assert json.loads(Live(history).text())["age"] == 0


def test_history_that_is_seldom_sampled_is_not_stale_between_two_samples(monkeypatch):
    seldom = History([SOURCE], unwatched_seconds=60)
    began = keeping.time.monotonic()
    for later, stale in ((keeping.STALE_SECONDS + 1, False), (181, True)):
        monkeypatch.setattr(keeping.time, "monotonic", lambda later=later: began + later)
        assert seldom.is_stale() == stale


def test_summary_says_what_the_drawing_shows():
    busy = reading([5, 5, 0])
    states = ("stalled", "idle", "idle")
    workers = [replace(worker, state=state, queue_depth=2) for worker, state in zip(busy.workers, states, strict=True)]
    shown = replace(
        busy, workers=workers, queues=[Queue(129, 128)], fullest_queue=Queue(129, 128), syn_queue_length=7,
        drops=1200, drops_per_second=30.0, connections=26,
    )  # fmt: skip
    words = live.summary(shown)
    for part in (
        "its accept queue overflows", "accept queue 129 of 128", "SYN queue 7", "1,200 dropped, 30 a second",
        "26 connections open", "6 handed off and waiting", "workers: 1 stalled, 2 idle",
    ):  # fmt: skip
        assert part in words
    assert "dropped" not in live.summary(replace(shown, drops=0, drops_per_second=0.0, queues=[Queue(0, 128)]))
    assert "fullest of 2 accept queues 129 of 128" in live.summary(replace(shown, queues=[Queue(0, 128)] * 2))


def test_remedy_on_hosts_is_to_be_had_there(monkeypatch):
    monkeypatch.setattr(settings, "ON_HOSTS", True)
    monkeypatch.setenv("LAB_NGINX_HOST", "192.0.2.11")
    words = live.remedy("nginx")
    assert "PLACE=vms" in words
    assert "journalctl -u accept-lab-nginx" in words
    assert words.endswith("192.0.2.11:9104")


def test_fewer_samples_are_taken_while_nobody_looks(history):
    assert history.interval_seconds() == keeping.UNWATCHED_SECONDS
    history.looked()
    assert history.interval_seconds() == keeping.WATCHED_SECONDS
    assert History(history.sources, unwatched_seconds=7.0).interval_seconds() == 7.0


def test_new_number_comes_when_all_that_belongs_to_it_is_there(history, monkeypatch):
    seen = []
    monkeypatch.setattr(keeping, "figures_of", lambda _: seen.append(history.number) or ())
    history.note([sample_at(0)])
    history.note([sample_at(1, requests=10)])
    assert seen == [0]
    assert history.number == 1
