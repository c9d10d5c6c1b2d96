"""Inside the sandbox: whose turn it is, and what becomes of a figure that hangs."""

import contextlib
import signal
import time
from types import SimpleNamespace

import pytest

from lab.fidelity import __main__ as inside
from lab.fidelity.row import Signature
from lab.fidelity.running import FidelityError


@pytest.fixture
def measured(monkeypatch, row):
    """Measures a row of systems that are not started, by this function; returns figures, and labels in their order."""
    asked = []

    @contextlib.contextmanager
    def started(system):
        asked.append(system.label)
        yield SimpleNamespace(system=system, orphans_seconds=0.0)

    monkeypatch.setattr(inside, "started", started)

    def measure(function, repeats=1):
        return inside.measured(row(signature=Signature("kind", "text", function)), repeats), asked

    return measure


def test_model_and_real_system_take_turns_and_the_wrong_model_comes_last(measured):
    figures, asked = measured(lambda running: len(running.system.label), repeats=2)
    model, real, wrong = "nginx --workers 3", "nginx, 3 workers", "nginx --wakeup exclusive"
    assert asked == [model, real, real, model, wrong]
    assert (figures["model"], figures["real"], figures["wrong"]) == ([len(model)] * 2, [len(real)] * 2, [len(wrong)])


def test_figure_that_hangs_is_given_up(measured, monkeypatch):
    monkeypatch.setattr(inside, "MOST_SECONDS", 1)
    before = signal.signal(signal.SIGALRM, inside.give_up)
    try:
        with pytest.raises(FidelityError, match="not measured within 1 s"):
            measured(lambda running: time.sleep(30))
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
