"""The drawing: its differences are those of the models, and what it shows is what was read."""

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from lab.console import anatomy
from lab.top.readings import Queue, Reading, WorkerReading
from services.options import MODELS

FOUR = ["0", "1", "2", "3"]


def ids(model, workers=FOUR):
    tree = ET.fromstring(anatomy.draw(model, workers))
    return {element.get("id") for element in tree.iter() if element.get("class") == "part"}


def worker(name, **figures):
    given = {"kind": "process", "pid": 1, "state": "idle", "connections": 0, "queue_depth": 0,
             "requests_per_second": 0.0, "share": 0.25, "cpu_percent": 0.0, "switches_per_accept": None}  # fmt: skip
    return WorkerReading(worker=name, **{**given, **figures})


@pytest.fixture
def reading():
    return Reading("nginx", "http://127.0.0.1:9104", up=True, workers=[worker(name) for name in FOUR],
                   queues=[Queue(0, 128)], drops_per_second=0.0)  # fmt: skip


def test_every_model_has_a_drawing_of_its_own():
    assert anatomy.SHAPES.keys() == MODELS.keys()
    parts = {model: frozenset(name.partition("-")[2] for name in ids(model)) for model in MODELS}
    assert len(set(parts.values()) - {parts["nodejs"]}) >= 3
    assert len([name for name in parts["reuseport"] if name.startswith("accept")]) == len(FOUR)
    assert len([name for name in parts["memcached"] if name.startswith("handoff")]) == len(FOUR)
    assert [name for name in parts["ramcloud"] if name.startswith("handoff")] == ["handoff-shared"]
    assert not [name for name in parts["nginx"] if name.startswith(("handoff", "main"))]


@pytest.mark.parametrize("model", MODELS)
def test_whatever_is_shown_has_its_place_in_the_drawing(model):
    names = ["main"] if model == "nodejs" else ["main", *FOUR] if MODELS[model].accepts == "main" else FOUR
    queues = [Queue(0, 128)] * (len(FOUR) if model == "reuseport" else 1)
    reading = Reading(model, "", up=True, workers=[worker(name) for name in names], queues=queues)
    assert anatomy.figures(reading).keys() == ids(model, anatomy.workers_of(reading))


@pytest.mark.parametrize(
    ("length", "drops", "state"), [(0, 0.0, ""), (110, 0.0, "warn"), (128, 0.0, "warn"), (128, 2.0, "bad"), (129, 0.0, "bad")]
)
def test_accept_queue_warns_when_it_is_nearly_full_and_is_red_when_it_drops(reading, length, drops, state):
    look = anatomy.figures(replace(reading, queues=[Queue(length, 128)], drops_per_second=drops))["nginx-accept-0"]
    assert (look.state, look.text) == (state, f"{length} / 128")
    assert look.level == min(1.0, length / 128)


def test_stalled_worker_stands_out(reading):
    stalled = replace(reading, workers=[worker("0", state="stalled", connections=7, cpu_percent=100.0), *reading.workers[1:]])
    look = anatomy.figures(stalled)["nginx-worker-0"]
    assert (look.level, look.state) == (1.0, "bad")
    assert "7 conn" in look.text


def test_model_that_is_down_shows_nothing(reading):
    assert anatomy.figures(replace(reading, up=False, problem="connection refused")) == {}
