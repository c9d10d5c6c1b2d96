"""Simulated service time. Bounds are one-sided: a busy machine may take longer, never less."""

import time

import pytest

from services.apps.parameters import BadRequestError
from services.apps.work import BURNERS, Work, work_in


def test_durations_are_read_in_three_units():
    work = work_in({"cpu": "200us", "block": "1.5s", "gil": "hold"})
    assert work == Work(pytest.approx(0.0002), 1.5, "hold")
    assert work_in({}) == Work(0.0, 0.0, "release")
    assert work_in({"block": "60s"}).seconds == 60


@pytest.mark.parametrize("text", ["5", "5m", "-5ms", "60.1s", "60001ms", "1e3ms", "", "ms", "nans", "5 ms", "\u0665ms"])
@pytest.mark.parametrize("name", ["cpu", "block"])
def test_bad_duration_is_refused_by_name(name, text):
    with pytest.raises(BadRequestError, match=f"{name} must be a duration like 5ms"):
        work_in({name: text})


def test_bad_gil_names_the_choices(client):
    assert client.http("GET", b"/work?gil=keep").body == b"gil must be one of release, hold, hold-c\n"


@pytest.mark.parametrize("gil", ["release", "hold"])
def test_cpu_is_burnt_by_the_thread_clock(gil):
    start = time.thread_time()
    Work(cpu_seconds=0.01, gil=gil).perform()
    assert time.thread_time() - start >= 0.01


def test_one_c_call_burns_more_when_asked_for_more():
    spent = []
    for seconds in (0.005, 0.1):
        start = time.thread_time()
        BURNERS["hold-c"](seconds)
        spent.append(time.thread_time() - start)
    # Calibrated, not measured: the clock frequency may have changed, but not twentyfold.
    assert spent[0] < spent[1]
    assert spent[1] > 0.02


def test_block_sleeps_without_burning():
    wall, cpu = time.monotonic(), time.thread_time()
    Work(block_seconds=0.05).perform()
    assert time.monotonic() - wall >= 0.05
    assert time.thread_time() - cpu < 0.05


def test_work_reports_what_it_spent(client):
    response = client.http("GET", b"/work?cpu=2ms&block=3ms")
    assert response.code == "200"
    spent = dict(line.split(": ") for line in response.body.decode().splitlines())
    assert float(spent["cpu"].removesuffix(" ms")) >= 2
    assert float(spent["wall"].removesuffix(" ms")) >= 5
