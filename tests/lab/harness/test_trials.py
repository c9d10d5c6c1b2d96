"""The trials of a run: their order, which are made again, and who gets which processor."""

import json
from dataclasses import replace
from itertools import chain, repeat

import pytest

from lab.experiments import all_experiments
from lab.harness import trials as inside
from lab.harness.checks import between
from lab.harness.experiment import Check, Control
from lab.harness.observation import Arm, Observation, Quantity
from lab.harness.trial import TrialError
from lab.harness.trials import in_turn, shared_out

BUSY, FREE = 0.5, 0.01
ARMS = (Arm("a"), Arm("b"))


def test_every_second_round_goes_backwards():
    assert "".join("".join(in_turn("abc", repetition)) for repetition in range(3)) == "abccbaabc"


@pytest.fixture
def made(monkeypatch, capsys):
    """Make the trials of an experiment with one timed check on arm `a` and a count of `b`; which, and what was said.

    `taken` are the shares of the processors that others have during one trial after the other.
    """

    def make(*taken, quick=False, timed=True, arms=ARMS, decisive=0):
        shares = chain(taken, repeat(FREE))
        monkeypatch.setattr(
            inside, "ForeignCpu", lambda _: type("ForeignCpu", (), {"share": lambda self: next(shares)})()
        )
        checks = (
            Check("time", "", "", "", between("a", "x"), timed=timed),
            Check("count", "", "", "", between("b", "x"), timed=False),
        )
        controls = (Control("c", "", (), ("time", "count")),)
        fields = {"arms": arms, "checks": checks, "controls": controls, "repetitions": 2, "quick_repetitions": 1}
        experiment = replace(all_experiments()[0], **fields)
        inside.make_trials(experiment, checks[decisive:], quick=quick)
        said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return [f"{each['arm']}{each['repetition']}" for each in said if "arm" in each], said

    return make


@pytest.fixture(autouse=True)
def on_all_processors(monkeypatch):
    monkeypatch.setattr(inside.os, "sched_setaffinity", lambda *_: None)
    monkeypatch.setattr(inside, "make_trial", lambda *_, **__: Observation({"x": Quantity(1)}))


def test_free_machine_needs_each_trial_once(made):
    assert made()[0] == ["a0", "b0", "b1", "a1"]


def test_hindered_trial_of_a_timed_check_is_made_again_after_its_round(made):
    order, said = made(BUSY)
    assert order == ["a0", "b0", "a0", "b1", "a1"]
    assert "a, again, since others had the processors" in [each.get("doing") for each in said]


@pytest.mark.parametrize(("quick", "times"), [(True, 1), (False, 2)])
def test_trial_on_a_machine_that_stays_busy_is_not_made_for_ever(made, quick, times):
    order, _ = made(*[BUSY] * 20, quick=quick)
    assert order.count("a0") == 1 + times


def test_run_in_full_form_makes_a_stated_few_again(made, monkeypatch):
    monkeypatch.setitem(inside.MOST_AGAIN, False, 3)
    order, _ = made(*[BUSY] * 20)
    assert len(order) == 4 + 3


def test_hindered_trial_on_which_only_counts_rest_is_made_once(made):
    assert made(FREE, BUSY)[0] == ["a0", "b0", "b1", "a1"]
    assert made(BUSY, BUSY, timed=False)[0] == ["a0", "b0", "b1", "a1"]


def test_control_makes_nothing_again_for_checks_that_it_does_not_name(made):
    assert made(BUSY, decisive=1)[0] == ["a0", "b0", "b1", "a1"]


@pytest.mark.parametrize(("share", "outcome"), [(BUSY, "made"), (FREE, "refused")])
def test_trial_that_others_kept_from_being_made_is_tried_once_more(made, monkeypatch, share, outcome):
    errors = iter([TrialError("too late")])

    def make_trial(*_, **__):
        for error in errors:
            raise error
        return Observation({"x": Quantity(1)})

    monkeypatch.setattr(inside, "make_trial", make_trial)
    if outcome == "made":
        assert made(share)[0] == ["a0", "b0", "b1", "a1"]
    else:
        with pytest.raises(TrialError, match="too late"):
            made(share)


def test_quick_form_leaves_out_arms_that_tell_no_more_there(made):
    arms = (Arm("a"), Arm("b"), Arm("c", quick=False))
    assert made(quick=True, arms=arms)[0] == ["a0", "b0"]
    assert made(arms=arms)[0] == ["a0", "b0", "c0", "c1", "b1", "a1"]


@pytest.mark.parametrize(
    ("cpus", "server", "client"),
    [
        ({0}, {0}, {0}),
        ({0, 1}, {0}, {1}),
        ({4, 2, 0, 6}, {0, 2}, {4, 6}),
        (set(range(8)), set(range(5)), {5, 6, 7}),
    ],
)
def test_server_and_client_share_no_processor_where_there_are_two(cpus, server, client):
    assert shared_out(cpus) == (server, client)
