"""docs/theory.md: every statement, and what the checks say of it."""

import re
from dataclasses import replace

import pytest

from lab.experiments import all_experiments
from lab.experiments.theory import CHAPTERS, CORRECTIONS, STATEMENTS, Statement
from lab.report import theory

CHECKS = [check for experiment in all_experiments() for check in experiment.checks]
NUMBERS = [statement.number for statement in STATEMENTS]


def test_page_is_up_to_date():
    assert theory.PAGE.read_text(encoding="utf-8") == theory.page(), "run `make docs`"


def test_page_has_every_statement_once_and_in_order():
    assert re.findall(r"^\*\*([A-Z]\d+)\*\* ", theory.page(), re.MULTILINE) == NUMBERS
    assert len(NUMBERS) == len(set(NUMBERS))
    assert {number[0] for number in NUMBERS} == set(CHAPTERS)


def test_page_has_every_correction_and_all_of_its_links_lead_somewhere():
    text = theory.page()
    assert all(text.count(f"“{correction.often_said}” {correction.truth}") == 1 for correction in CORRECTIONS)
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert [link for link in links if not (theory.PAGE.parent / link).exists()] == []


def test_checks_name_statements_that_there_are():
    assert {number for check in CHECKS for number in check.shows} <= set(NUMBERS)
    assert {correction.statement for correction in CORRECTIONS} <= {*NUMBERS, ""}
    assert all(check.corrects in CORRECTIONS for check in CHECKS if check.corrects)


@pytest.mark.parametrize(
    ("statement", "state"),
    [
        (Statement("E1", "A handshake."), "shown"),
        (Statement("E1", "A handshake.", missing="more"), "shown in part"),
        (Statement("L1", "Three roles.", models=("nginx",)), "shown"),
        (Statement("E6", "accept() does it."), "corrected"),
        (Statement("L3", "Memcached."), "shown, corrected"),
        (Statement("P10", "As many as cores."), "not shown yet"),
        (Statement("X1", "Something else."), "not shown yet"),
    ],
)
def test_state_of_a_statement(statement, state):
    proofs = [proof for experiment in all_experiments() for proof in theory._proofs_of(experiment)]
    assert theory.state_of(statement, proofs) == state


def with_correction(experiment):
    first = replace(experiment.checks[0], corrects=CORRECTIONS[0], shows=("E1",))
    return replace(experiment, checks=(first, *experiment.checks[1:]))


def test_correction_is_set_beside_what_the_stored_run_measured(experiment, document, stored, monkeypatch):
    result = stored(document)
    monkeypatch.setattr(theory, "read_stored", lambda _: result)
    (proof,) = theory.corrections_of(with_correction(experiment))
    said = f"often said: “{CORRECTIONS[0].often_said}” Measured: mean 1.6 ms (1.5 to 1.7)."
    assert theory.often_said(proof) == said
    assert proof.document()["measured"] == "mean 1.6 ms (1.5 to 1.7)"


def test_correction_whose_check_has_changed_has_no_old_figure(experiment, document, stored, monkeypatch):
    result = stored(document)
    result["checks"][0]["expected"] = "something else"
    monkeypatch.setattr(theory, "read_stored", lambda _: result)
    (proof,) = theory.corrections_of(with_correction(experiment))
    assert theory.often_said(proof).endswith("Measured: not measured anew yet.")
