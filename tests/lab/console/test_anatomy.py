"""The drawing: its differences are those of the models, and what it shows is what was read."""

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from lab.console import anatomy, looks
from lab.top.readings import Queue, Reading, WorkerReading
from services.options import MODELS

FOUR = ["0", "1", "2", "3"]


def drawings(model, workers=FOUR, options=None):
    """The wide one and the tall one."""
    return ET.fromstring(f"<div>{anatomy.draw(model, workers, options)}</div>")


def names(model, workers=FOUR, options=None):
    """The parts of each of the drawings: they are the same."""
    wide, tall = (
        {part.get("data-part") for part in one.iter() if part.get("data-part")}
        for one in drawings(model, workers, options)
    )
    assert wide == tall
    return wide


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
    parts = {model: frozenset(name.partition("-")[2] for name in names(model)) for model in MODELS}
    assert len(set(parts.values()) - {parts["nodejs"]}) >= 3
    assert len([name for name in parts["reuseport"] if name.startswith("accept")]) == len(FOUR)
    assert len([name for name in parts["memcached"] if name.startswith("handoff")]) == len(FOUR)
    assert [name for name in parts["ramcloud"] if name.startswith("handoff")] == ["handoff-shared"]
    assert not [name for name in parts["nginx"] if name.startswith(("handoff", "main"))]


@pytest.mark.parametrize("model", MODELS)
def test_whatever_is_shown_has_its_place_in_the_drawing(model):
    present = ["main"] if model == "nodejs" else ["main", *FOUR] if MODELS[model].accepts == "main" else FOUR
    queues = [Queue(0, 128)] * (len(FOUR) if model == "reuseport" else 1)
    reading = Reading(model, "", up=True, workers=[worker(name) for name in present], queues=queues)
    assert looks.figures(reading).keys() == names(model, anatomy.workers_of(reading))


@pytest.mark.parametrize(
    ("length", "drops", "state"),
    [(0, 0.0, ""), (110, 0.0, "warn"), (128, 0.0, "warn"), (128, 2.0, "bad"), (129, 0.0, "bad")],
)
def test_accept_queue_warns_when_it_is_nearly_full_and_is_red_when_it_drops(reading, length, drops, state):
    look = looks.figures(replace(reading, queues=[Queue(length, 128)], drops_per_second=drops))["nginx-accept-0"]
    assert (look.state, look.texts) == (state, (f"{length} / 128",))
    assert look.level == min(1.0, length / 128)


def test_stalled_worker_stands_out(reading):
    stalled = replace(
        reading, workers=[worker("0", state="stalled", connections=7, cpu_percent=100.0), *reading.workers[1:]]
    )
    look = looks.figures(stalled)["nginx-worker-0"]
    assert (look.level, look.state) == (1.0, "bad")
    assert look.texts == ("0 stalled", "7 conn", "0/s")


def test_model_that_is_down_shows_nothing(reading):
    assert looks.figures(replace(reading, up=False, problem="connection refused")) == {}


def test_options_that_move_the_work_change_the_drawing():
    assert "nodejs-main" not in names("nodejs", ["main"], {"cluster": 0, "scheduling": "round-robin"})
    dealt = names("nodejs", FOUR, {"cluster": 4, "scheduling": "round-robin"})
    assert {"nodejs-main", "nodejs-handoff-3"} <= dealt
    assert "nodejs-main" not in names("nodejs", FOUR, {"cluster": 4, "scheduling": "shared-handle"})
    assert "ramcloud-handoff-3" in names("ramcloud", FOUR, {"dispatch": "connection"})


def test_requests_for_the_least_loaded_wait_for_their_worker_and_not_for_any():
    options = {"dispatch": "request-least-loaded"}
    assert names("ramcloud", FOUR, options) >= {f"ramcloud-handoff-{name}" for name in FOUR}
    assert "ramcloud-handoff-shared" not in names("ramcloud", FOUR, options)
    workers = [worker("main"), worker("0", queue_depth=7, requests_per_second=50.0), worker("1")]
    reading = Reading("ramcloud", "", up=True, workers=workers, queues=[Queue(0, 128)], options=options)
    assert looks.figures(reading)["ramcloud-handoff-0"].texts == ("7",)
    # They come without a connection being accepted, too.
    assert [looks.flows(reading)[f"ramcloud-handoff-{name}"] for name in "01"] == [2, 0]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("count", "wide", "tall"), [(4, "", ""), (6, "", "2"), (24, "8", "20")])
def test_workers_that_are_not_drawn_are_counted(model, count, wide, tall):
    said = [
        [text.text for text in one.iter("text") if "more" in (text.text or "")]
        for one in drawings(model, [str(number) for number in range(count)])
    ]
    assert said == [[f"… and {number} more"] if number else [] for number in (wide, tall)]


def test_name_of_a_worker_is_no_markup():
    drawn = drawings("nginx", ['"><script>'])
    assert 'nginx-worker-"><script>' in {part.get("data-part") for part in drawn.iter()}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("count", [1, 2, 256])
def test_boxes_of_any_number_of_workers_stay_in_the_drawing(model, count):
    for drawing in drawings(model, [str(number) for number in range(count)]):
        width, height = map(float, drawing.get("viewBox").split()[2:])
        assert all(float(text.get("y")) <= height for text in drawing.iter("text"))
        for box in drawing.iter("rect"):
            x, y, own_width, own_height = (float(box.get(name)) for name in ("x", "y", "width", "height"))
            assert min(x, y) >= 0
            assert x + own_width <= width
            assert y + own_height <= height


def test_drops_are_told_while_they_happen_and_afterwards(reading):
    now = looks.figures(replace(reading, drops=1200, drops_per_second=30.0))["nginx-drops"]
    assert (now.state, now.texts) == ("bad", ("✕ 1,200 dropped · 30/s",))
    past = looks.figures(replace(reading, drops=1200, drops_per_second=0.0))["nginx-drops"]
    assert (past.state, past.texts) == ("past", ("✕ 1,200 dropped",))


def test_dots_run_only_where_something_moves_and_faster_where_more_does(reading):
    assert not any(looks.flows(reading).values())
    busy = replace(
        reading,
        accepts_per_second=3.0,
        workers=[worker("0", requests_per_second=500.0), worker("1", requests_per_second=20.0)],
    )
    flows = looks.flows(busy)
    assert [flows[f"nginx-{part}"] for part in ("accept-0", "worker-0", "worker-1")] == [1, 3, 2]
