"""Retries: what effects and answers come to."""

import pytest
from support.results import arms

from lab.experiments import idempotent_retries


def crowd(effects, waiting=0, refused=0, meanwhile=0):
    return {
        idempotent_retries.EFFECTS: effects,
        idempotent_retries.TOLD_TO_WAIT: waiting,
        idempotent_retries.REFUSED: refused,
        "duplicated, retries meanwhile": meanwhile,
    }


@pytest.mark.parametrize(
    ("arm", "trial", "unprotected", "holds"),
    [
        pytest.param("upsert", crowd(1), crowd(8), True, id="one effect of many at once"),
        pytest.param("upsert", crowd(2), crowd(8), False, id="two effects"),
        pytest.param("upsert", crowd(1, refused=1), crowd(8), False, id="one refused"),
        pytest.param("upsert", crowd(1), crowd(1), None, id="they did not meet"),
        pytest.param("idempotency-key", crowd(1, waiting=87), crowd(8), True, id="the others told to wait"),
        pytest.param("idempotency-key", crowd(1), crowd(8), None, id="nobody told to wait"),
    ],
)
def test_one_effect_of_a_crowd(arm, trial, unprotected, holds):
    figures = arms(**{arm: [trial], "request-id": [unprotected]})
    assert idempotent_retries.one_effect(arm)(figures).holds is holds


@pytest.mark.parametrize(
    ("trial", "holds"),
    [
        pytest.param(crowd(8, meanwhile=34), True, id="both"),
        pytest.param(crowd(8), False, id="only of the crowd"),
        pytest.param(crowd(1, meanwhile=34), False, id="none of the crowd"),
    ],
)
def test_duplicates_slip_through_request_id(trial, holds):
    assert idempotent_retries.slips_through(arms(**{"request-id": [trial]})).holds is holds


def test_operations_are_compared_with_what_workers_say():
    seen = {
        "/fine": {"fault": "cut", "faults": 1, "applied": {"a": 1}},
        "/twice": {"fault": "cut", "faults": 1, "applied": {"b": 1}},
        "/unknown-to-one": {"fault": "repeat", "faults": 1, "applied": {"c": 2}},
    }
    effects = {
        "/fine": idempotent_retries.Effects(1, 1),
        "/twice": idempotent_retries.Effects(2, 2),
        "/unknown-to-one": idempotent_retries.Effects(1, 0),
    }
    metrics = {name: figure.value for name, figure in idempotent_retries.compared(seen, effects).metrics.items()}
    assert (metrics["duplicated, retries later"], metrics["lost, retries later"]) == (1, 0)
    assert (metrics["duplicated, retries meanwhile"], metrics["lost, retries meanwhile"]) == (0, 1)
    assert (metrics["faults, retries later"], metrics["faults, retries meanwhile"]) == (2, 1)


def faulty(found, faults):
    return {"duplicated, retries later": found, "faults, retries later": faults}


@pytest.mark.parametrize(
    ("trials", "holds", "words"),
    [
        pytest.param(
            [faulty(0, 250)] * 3, True, "in 750 faults, so by the rule of three in fewer than 0.4 % of them", id="none"
        ),
        pytest.param([faulty(0, 60)], True, "in fewer than 5 % of them", id="none of few, in quick form"),
        pytest.param([faulty(0, 250), faulty(1, 250)], False, "duplicated 0.5 (0 to 1) in 500 faults", id="one"),
        pytest.param([faulty(0, 100)] * 3, None, "in 300 faults: too few to tell", id="too few faults"),
        pytest.param([faulty(0, 900), faulty(0, 0)], None, "too few to tell", id="a trial without faults"),
    ],
)
def test_none_names_its_faults_and_what_they_prove(trials, holds, words):
    found = idempotent_retries.none_of("upsert", "duplicated", "later")(arms(upsert=trials))
    assert found.holds is holds
    assert words in found.measured


def test_rule_of_three_is_what_nothing_in_n_leaves_possible():
    n = 500
    assert (1 - idempotent_retries.rule_of_three(n)) ** n == pytest.approx(0.05, abs=0.001)
