"""From observations to a verdict, and the ways to judge that experiments share."""

from dataclasses import replace

import pytest

from lab.harness.checks import always, between, every_trial, ratio
from lab.harness.experiment import ArmResult, Check, Control, Experiment, Finding
from lab.harness.observation import FAILED, GENERATOR_CPU, LITTLES_LAW, OTHERS, Arm, Observation, Quantity
from lab.harness.verdict import arms_of, judge

TWO_CORES = {"kernel": "6", "cpus": 2, "python": "3", "gil": True, "commit": "c"}


def results(**arms):
    """`results(a={"x": [1, 2, 3]})`: three trials of one arm."""
    return {
        name: ArmResult(
            Arm(name),
            [Observation({key: Quantity(value) for key, value in zip(metrics, values, strict=True)})
             for values in zip(*metrics.values(), strict=True)],
        )
        for name, metrics in arms.items()
    }  # fmt: skip


def experiment(*judges, cores=1, timed=True):
    checks = tuple(Check(f"c{number}", "", "", "", judge, timed=timed) for number, judge in enumerate(judges))
    control = Control("none", "", (Arm("a"),), tuple(check.name for check in checks))
    return Experiment("e", "models", "?", "", (Arm("a"),), None, checks, "", (control,), cores=cores)


def found(holds):
    return lambda results: Finding("", holds)


@pytest.mark.parametrize(
    ("holds", "word"),
    [
        ((True, True), "holds"),
        ((True, False), "fails"),
        ((True, None), "inconclusive"),
        ((False, None), "fails"),
    ],
)
def test_verdict_is_the_worst_of_the_checks(holds, word):
    verdict = judge(experiment(*map(found, holds)), results(a={"x": [1]}), TWO_CORES)
    assert verdict.word == word


def test_too_few_cores_decide_nothing():
    verdict = judge(experiment(found(False), cores=4), results(a={"x": [1]}), TWO_CORES)
    assert (verdict.word, verdict.reasons) == ("inconclusive", ["needs 4 cores, and there are 2"])
    assert [outcome.holds for outcome in verdict.outcomes] == [None]


def test_check_that_needs_more_cores_is_open_and_leaves_the_others_alone():
    declared = experiment(found(True), found(False))
    few = replace(declared, checks=(declared.checks[0], replace(declared.checks[1], cores=4)))
    verdict = judge(few, results(a={"x": [1]}), TWO_CORES)
    assert verdict.word == "inconclusive"
    assert [outcome.holds for outcome in verdict.outcomes] == [True, None]
    assert "c1: needs 4 cores" in verdict.reasons[0]


@pytest.mark.parametrize(
    ("metric", "good", "bad"), [(GENERATOR_CPU, 0.8, 0.81), (LITTLES_LAW, 0.91, 0.89), (LITTLES_LAW, 1.09, 1.11)]
)
def test_figures_of_a_saturated_or_unsteady_generator_decide_nothing(metric, good, bad):
    for failing in (between("a", metric), between("a", metric, least=9)):
        verdict = judge(experiment(failing), results(a={metric: [bad]}), TWO_CORES)
        assert verdict.word == "inconclusive"
        assert "a: " in verdict.reasons[0]
    assert judge(experiment(between("a", metric)), results(a={metric: [good]}), TWO_CORES).word == "holds"


@pytest.mark.parametrize(
    ("metric", "values", "word"),
    [
        (GENERATOR_CPU, [0.5, 0.5, 0.81], "holds"),
        (GENERATOR_CPU, [0.5, 0.81, 0.81], "inconclusive"),
        (LITTLES_LAW, [1, 1, 1.2], "holds"),
        (LITTLES_LAW, [1, 1.2, 1.2], "inconclusive"),
    ],
)
def test_one_trial_moves_no_median(metric, values, word):
    assert judge(experiment(between("a", metric)), results(a={metric: values}), TWO_CORES).word == word


def test_spoilt_figures_leave_checks_alone_that_rest_on_others():
    measured = results(a={GENERATOR_CPU: [0.9], "x": [1]}, b={"x": [1]})
    verdict = judge(experiment(between("a", "x"), between("b", "x"), ratio("x", "b", to="a")), measured, TWO_CORES)
    assert [outcome.holds for outcome in verdict.outcomes] == [None, True, None]
    assert verdict.word == "inconclusive"


@pytest.mark.parametrize(("share", "holds"), [(0.15, [True, False]), (0.16, [None, None])])
def test_timed_checks_neither_hold_nor_fail_where_others_had_the_processors(share, holds):
    measured = results(a={OTHERS: [share] * 3, "x": [1, 1, 1]}, b={OTHERS: [0, 0, 0], "x": [1, 1, 1]})
    verdict = judge(experiment(between("a", "x"), between("a", "x", least=2)), measured, TWO_CORES)
    assert [outcome.holds for outcome in verdict.outcomes] == holds
    if None in holds:
        assert verdict.word == "inconclusive"
        assert verdict.reasons == [f"c{number}: a: others had 16% of the processors; x 1" for number in range(2)]
        assert "end what else runs" in verdict.advice


def test_counts_are_judged_however_busy_the_machine_is():
    measured = results(a={OTHERS: [0.9] * 3, GENERATOR_CPU: [1.0] * 3, LITTLES_LAW: [2.0] * 3, "x": [1, 1, 1]})
    verdict = judge(experiment(between("a", "x"), between("a", "x", least=2), timed=False), measured, TWO_CORES)
    assert [outcome.holds for outcome in verdict.outcomes] == [True, False]
    assert (verdict.word, verdict.advice) == ("fails", "")


def made_again(first, second):
    """Result of one repetition that was made twice: `(taken by others, x)` of each trial."""
    result = ArmResult(Arm("a"), [])
    for share, x in (first, second):
        result.add(0, Observation({OTHERS: Quantity(share), "x": Quantity(x)}))
    return {"a": result}


@pytest.mark.parametrize("trials", [((0.9, 7), (0.1, 5)), ((0.1, 5), (0.9, 7))])
def test_of_two_trials_of_a_repetition_the_less_hindered_stands_for_times_and_both_for_counts(trials):
    measured = made_again(*trials)
    assert measured["a"].values("x") == [5]
    for timed, holds in ((True, True), (False, False)):
        (outcome,) = judge(experiment(always("a", "x", most=5), timed=timed), measured, TWO_CORES).outcomes
        assert outcome.holds is holds


def test_arms_of_checks_are_those_that_they_ask_for():
    measured = results(a={"x": [0]}, b={"x": [1]}, c={"x": [1]})
    checks = experiment(between("a", "x"), lambda found: Finding("", found["b"].median("x") / 0 > 1)).checks
    assert arms_of(checks, measured) == {"a", "b"}


def test_arms_that_had_the_processors_to_themselves_fail_beside_others():
    measured = results(a={OTHERS: [0.5], "x": [1]}, b={OTHERS: [0], "x": [1]})
    verdict = judge(experiment(between("b", "x", least=2)), measured, TWO_CORES)
    assert verdict.word == "fails"


def test_between_takes_the_median_and_always_every_trial():
    measured = results(a={"x": [1, 2, 9]})
    assert between("a", "x", most=2)(measured).holds
    assert not always("a", "x", most=2)(measured).holds
    assert always("a", "x", least=1, most=9)(measured).holds
    assert between("a", "x", most=2)(measured).measured == "x 2 (1 to 9)"


def test_every_trial_is_judged_by_its_own_metrics_together():
    measured = results(a={"x": [1, 2], "y": [2, 3]})
    assert every_trial("a", "x", "y", holds=lambda x, y: y == x + 1)(measured) == (
        "x 1.5 (1 to 2), y 2.5 (2 to 3)",
        True,
    )
    assert not every_trial("a", "x", "y", holds=lambda x, y: y == 2)(measured).holds


def test_ratio_needs_spreads_apart_only_where_a_difference_is_claimed():
    apart, together = results(a={"x": [4, 5]}, b={"x": [1, 2]}), results(a={"x": [2, 6]}, b={"x": [1, 3]})
    assert ratio("x", "a", to="b", least=2)(apart).holds
    assert not ratio("x", "a", to="b", least=4)(apart).holds
    assert ratio("x", "a", to="b", least=2)(together).holds is None
    assert "no difference" in ratio("x", "a", to="b", least=2)(together).measured
    assert ratio("x", "a", to="b", least=3)(together).holds is False


def test_what_scatters_more_than_sameness_allows_shows_no_sameness():
    steady, loose = results(a={"x": [10, 10.5]}, b={"x": [10, 11]}), results(a={"x": [10, 10.5]}, b={"x": [8, 13]})
    assert ratio("x", "a", to="b", least=0.9, most=1.1)(steady).holds
    found = ratio("x", "a", to="b", least=0.9, most=1.1)(loose)
    assert found.holds is None
    assert "scatters" in found.measured


@pytest.mark.parametrize(
    ("one", "holds"), [([10.5], True), ([13], None), ([15], False), ([13, 13], False), ([7], None), ([5], False)]
)
def test_one_trial_of_each_refutes_sameness_only_from_afar(one, holds):
    judge = ratio("x", "a", to="b", least=0.9, most=1.1, one_trial=0.3)
    assert judge(results(a={"x": one}, b={"x": [10] * len(one)})).holds is holds


@pytest.mark.parametrize(
    ("one", "holds"),
    [([10, 10.5], True), ([7, 10, 13], None), ([3, 5, 7], True), ([11.5, 11.6], False)],
    ids=["steady", "scattered", "scattered far below", "greater"],
)
def test_no_greater_wants_figures_that_scatter_no_more_than_its_slack(one, holds):
    found = ratio("x", "a", to="b", most=1.1)(results(a={"x": one}, b={"x": [10] * len(one)}))
    assert found.holds is holds
    assert ("scatters too much to be called no greater" in found.measured) is (holds is None)


def test_no_smaller_is_its_mirror():
    judged = ratio("x", "a", to="b", least=0.9)
    assert judged(results(a={"x": [7, 10, 13]}, b={"x": [10] * 3})).holds is None
    assert judged(results(a={"x": [17, 20, 23]}, b={"x": [10] * 3})).holds


def test_load_of_which_some_failed_decides_nothing():
    measured = results(a={FAILED: [0, 1], "x": [1, 1]}, b={FAILED: [0, 0], "x": [1, 1]})
    verdict = judge(experiment(between("a", "x"), between("b", "x")), measured, TWO_CORES)
    assert [outcome.holds for outcome in verdict.outcomes] == [None, True]
    assert "up to 1 requests failed" in verdict.reasons[0]


def test_what_cannot_be_judged_is_open_and_leaves_the_others_alone():
    declared = experiment(lambda results: Finding("", 1 / 0), between("a", "x"))
    verdict = judge(declared, results(a={"x": [1]}), TWO_CORES)
    assert [outcome.holds for outcome in verdict.outcomes] == [None, True]
    assert "cannot be judged: ZeroDivisionError" in verdict.reasons[0]


def test_check_of_what_was_not_measured_is_no_verdict():
    with pytest.raises(KeyError, match="did not measure 'missing'"):
        judge(experiment(between("a", "missing")), results(a={"x": [1]}), TWO_CORES)


def test_ratio_to_zero_is_beyond_all_bounds():
    assert ratio("x", "a", to="b", least=2)(results(a={"x": [1]}, b={"x": [0]})).holds
    assert not ratio("x", "a", to="b", most=2)(results(a={"x": [1]}, b={"x": [0]})).holds


def test_metric_that_no_trial_has_is_named():
    with pytest.raises(KeyError, match="did not measure 'y'"):
        between("a", "y", most=1)(results(a={"x": [1]}))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"chapter": "cooking"}, "no chapter"),
        ({"arms": (Arm("a"), Arm("a"))}, "one name"),
        ({"controls": ()}, "no control can make fail"),
        ({"controls": (Control("n", "", (Arm("b"),), ("c0",)),)}, "replaces an arm"),
        ({"controls": (Control("n", "", (Arm("a"),), ("c9",)),)}, "names a check"),
    ],
)
def test_slip_in_a_declaration_is_named(change, problem):
    good = experiment(found(True))
    fields = {name: getattr(good, name) for name in Experiment.__slots__}
    with pytest.raises(ValueError, match=problem):
        Experiment(**{**fields, **change})


def test_arm_left_out_of_the_quick_form_is_left_out_of_a_control_too():
    good = replace(experiment(found(True)), arms=(Arm("a"), Arm("b", quick=False)))
    control = good.without_cause(Control("n", "", (Arm("b"),), ("c0",)))
    assert [[arm.name for arm in control.arms_in(quick=quick)] for quick in (True, False)] == [["a"], ["a", "b"]]


def test_control_takes_its_arms_in_place_of_the_others():
    other = Arm("a", parameters={"load": "even"})
    good = experiment(found(True))
    assert good.without_cause(Control("n", "", (other,), ("c0",))).arms == (other,)
