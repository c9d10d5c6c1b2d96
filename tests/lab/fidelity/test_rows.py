"""The table of rows: what each needs, and how they are shared out over systems."""

from collections import Counter
from pathlib import Path

import pytest

from lab.fidelity import signatures
from lab.fidelity.reals import KINDS as REALS
from lab.fidelity.rows import ROWS
from services.options import MODELS

LEAST_ROWS = 40
IN_CI = {"nginx", "memcached", "node"}
KINDS = sorted(file.stem for file in Path(signatures.__file__).parent.glob("*.py") if file.stem != "__init__")


def name(row):
    return f"{row.signature.text}: {row.model.label} | {row.real.label}"


def test_there_are_enough_rows_and_none_twice():
    assert len(ROWS) >= LEAST_ROWS
    assert len(set(map(name, ROWS))) == len(ROWS)


def test_at_most_a_third_is_of_one_system():
    (_, most), *_ = Counter(row.real.name for row in ROWS).most_common(1)
    assert most <= len(ROWS) / 3


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_signature_has_a_control(kind):
    assert any(row.wrong for row in ROWS if row.signature.kind == kind)


@pytest.mark.parametrize("row", ROWS, ids=name)
def test_row_says_why_and_is_of_systems_that_there_are(row):
    assert row.why
    assert row.model.name in {*MODELS, "copy-on-write"}
    assert row.real.name in REALS
    assert row.wrong is None or row.wrong.label != row.model.label


def test_quick_form_needs_nothing_that_ci_has_not():
    quick = [row for row in ROWS if row.quick]
    assert len(quick) >= 12
    assert {row.real.name for row in quick} == IN_CI
