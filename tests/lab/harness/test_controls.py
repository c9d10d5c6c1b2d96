"""Experiments with their cause taken away: what their quick form keeps."""

from dataclasses import replace

import pytest

from lab.experiments import all_experiments
from lab.harness.checks import always, ratio
from lab.harness.controls import as_run
from lab.harness.experiment import Check, Control, Experiment, Finding
from lab.harness.observation import Arm

ARMS = (Arm("a"), Arm("b"), Arm("c"), Arm("d"))
CHECKS = (
    Check("one", "", "", "", always("a", "x"), timed=False),
    Check("two", "", "", "", ratio("x", "b", to="c", least=2), timed=True),
)
OTHER = Arm("a", parameters={"other": True})
FIRST, SECOND = Control("first", "", (OTHER,), ("one",)), Control("second", "", (Arm("b"),), ("two",))
EXPERIMENT = Experiment("e", "models", "?", "", ARMS, None, CHECKS, "", (FIRST, SECOND))


def names(experiment):
    return [arm.name for arm in experiment.arms], [check.name for check in experiment.checks]


def test_experiment_without_a_control_is_itself():
    assert as_run(EXPERIMENT, None, quick=True) is EXPERIMENT


def test_full_form_keeps_everything_but_the_arms_that_are_replaced():
    changed = as_run(EXPERIMENT, FIRST, quick=False)
    assert names(changed) == names(EXPERIMENT)
    assert changed.arms[0] == OTHER


def test_quick_form_keeps_what_the_named_checks_rest_on():
    changed = as_run(EXPERIMENT, FIRST, quick=True)
    assert names(changed) == (["a"], ["one"])
    assert changed.arms == (OTHER,)
    assert names(as_run(EXPERIMENT, SECOND, quick=True)) == (["b", "c"], ["two"])


def test_arm_that_is_asked_for_only_where_another_is_great_is_kept():
    def judge(results):
        many = results["a"].median("x") > 10
        return Finding("", many and results["c"].median("x") > 1)

    checks = (replace(CHECKS[0], judge=judge), CHECKS[1])
    assert names(as_run(replace(EXPERIMENT, checks=checks), FIRST, quick=True)) == (["a", "c"], ["one"])


@pytest.mark.parametrize("experiment", all_experiments(), ids=lambda experiment: experiment.name)
def test_quick_controls_keep_what_they_name(experiment):
    for control in experiment.controls:
        changed = as_run(experiment, control, quick=True)
        assert {check.name for check in changed.checks} == set(control.fails)
        assert {arm.name for arm in control.arms} <= {arm.name for arm in changed.arms}
