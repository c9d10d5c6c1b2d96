"""Clients that come too late: what their times and resets come to."""

import re

import pytest
from support.results import arms

from lab.experiments import accept_queue_overflow


def late(first, last, predicted=5):
    return {"first late connect": first, "last late connect": last, "predicted": predicted}


@pytest.mark.parametrize(
    ("trials", "holds"),
    [
        pytest.param([late(5.01, 5.02)], True, id="on the step"),
        pytest.param([late(4.6, 5.02)], False, id="one as soon as there is room"),
        pytest.param([late(5.01, 5.6)], False, id="one later than a tenth"),
        pytest.param([late(5.01, 5.02), late(7.01, 7.02)], False, id="one trial on another step"),
    ],
)
def test_late_clients_connect_on_the_step(trials, holds):
    assert accept_queue_overflow.on_the_step(arms(arm=trials)).holds is holds


@pytest.mark.parametrize(
    ("quick", "room", "steps"),
    [(False, "4.5 s", ["after 5 s", "after 7 s"]), (True, "0.5 s", ["after 1 s"])],
    ids=["full", "quick"],
)
def test_texts_have_the_figures_of_the_form(quick, room, steps):
    experiment = accept_queue_overflow.EXPERIMENT
    words = " ".join(experiment.explanation_in(quick=quick).split())
    assert f"room after {room}" in words
    assert re.findall(r"after \d+ s", words) == steps
    assert room.removesuffix(" s") + " seconds" in experiment.predict_in(quick=quick)


def test_arms_of_the_quick_form_predict_different_things():
    experiment = accept_queue_overflow.EXPERIMENT
    assert "exponential" in {arm.name for arm in experiment.arms_in(quick=False)}
    assert "exponential" not in {arm.name for arm in experiment.arms_in(quick=True)}


@pytest.mark.parametrize(
    ("to_ack", "to_syn", "holds"),
    [
        pytest.param({"abort": 1, "backlog 4": 0}, 0, True, id="the ACK, in its arm"),
        pytest.param({"abort": 0, "backlog 4": 0}, 0, False, id="never"),
        pytest.param({"abort": 1, "backlog 4": 1}, 0, False, id="in another arm, too"),
        pytest.param({"abort": 1, "backlog 4": 0}, 1, False, id="a SYN"),
    ],
)
def test_abort_answers_the_ack(to_ack, to_syn, holds):
    figures = {name: [{"RST to ACK": value, "RST to SYN": to_syn}] for name, value in to_ack.items()}
    assert accept_queue_overflow.aborts_the_ack_only(arms(**figures)).holds is holds
