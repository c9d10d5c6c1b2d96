"""From figures to a row: agrees, differs, or inconclusive; and the control that must be caught."""

import pytest

from lab.fidelity.judge import inconclusive, judged, near, unexplained


def figures(model, real, wrong=(), others=0.0):
    return {"model": model, "real": real, "wrong": list(wrong), "others": others}


@pytest.mark.parametrize(
    ("one", "other", "tolerance", "expected"),
    [(3, 3, 0, True), (3, 4, 0, False), (0.33, 0.43, 0.1, True), (0.43, 0.33, 0.1, True), (0.33, 0.44, 0.1, False)],
)
def test_figures_are_near_up_to_the_tolerance(one, other, tolerance, expected):
    assert near(one, other, tolerance) is expected


def test_medians_are_compared(row):
    found = judged(row(), figures([0.3, 0.9, 0.35], [0.4, 0.4, 0.4]))
    assert (found["model_value"], found["real_value"], found["agrees"]) == (0.35, 0.4, True)


def test_row_that_differs_is_unexplained_unless_it_is_meant_to(row):
    apart = figures([0.9], [0.3])
    assert len(unexplained([judged(row(), apart)])) == 1
    on_purpose = judged(row(differs=True), apart)
    assert on_purpose["agrees"] is False
    assert unexplained([on_purpose]) == []


def test_row_that_differs_while_others_had_the_processors_is_inconclusive(row):
    hindered = judged(row(), figures([0.9], [0.3], others=0.5))
    assert hindered["agrees"] is None
    assert unexplained([hindered]) == []
    assert len(inconclusive([hindered])) == 1


def test_row_that_agrees_all_the_same_agrees(row):
    assert judged(row(), figures([0.33], [0.34], others=0.5))["agrees"] is True


@pytest.mark.parametrize(("wrong", "caught"), [(0.9, True), (0.35, False)])
def test_wrong_model_must_not_pass(row, wrong, caught):
    found = judged(row(), figures([0.33], [0.34], [wrong]))
    assert found["control"]["caught"] is caught
    assert [line.endswith("passes") for line in unexplained([found])] == [True] * (not caught)
