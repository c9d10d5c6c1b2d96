"""The page of models beside real systems: what a run found, and how steady it was."""

import json

import pytest

from lab.report import fidelity, page
from lab.results import RESULT, runs

WHERE = {"kernel": "6.18", "cpus": 2, "python": "3.11.7", "gil": True, "commit": "abc"}
NAME = "busiest share (nginx --workers 3 | nginx, 3 workers)"


def document(agrees=True, **more):
    row = {
        "signature": "busiest share", "kind": "spread", "unit": "%", "model": "nginx --workers 3", "model_value": 0.33,
        "real": "nginx, 3 workers", "real_value": 0.36, "system": "nginx", "tolerance": 0.1, "agrees": agrees,
        "expected": True, "why": "they take turns", "figures": {"model": [0.33], "real": [0.36]}, "others": 0.0,
        "control": {"model": "nginx --wakeup exclusive", "value": 0.9, "caught": True},
    }  # fmt: skip
    return {
        "schema": 2, "begun": "2026-11-29T15:00:00+00:00", "command": "lab fidelity", "effort": "full", "environment": WHERE,
        "peers": {"nginx": "1.22.1"}, "missing": {"redis": "apt-get install redis-server"}, "rows": [row], "failed": [],
        "unexplained": [] if agrees else [f"{NAME}: differs"], "inconclusive": [], "seconds": 61.0, **more,
    }  # fmt: skip


def kept(tmp_path, *documents):
    for number, each in enumerate(documents):
        folder = tmp_path / f"20261129T15000{number}.000-fidelity"
        folder.mkdir()
        (folder / RESULT).write_text(json.dumps(each))
    return runs(tmp_path)[::-1]


def test_docs_page_is_up_to_date():
    assert fidelity.PAGE.read_text(encoding="utf-8") == fidelity.text(fidelity.read_stored()), "run `make docs`"


def test_page_sets_model_beside_real_system():
    text = fidelity.text(document())
    assert "**1 of 1 rows agree**, 0 differ, 0 are inconclusive." in text
    row = (
        "| busiest share | `nginx --workers 3` | 33 % | `nginx, 3 workers` | 36 % | ± 10 % | agrees | they take turns |"
    )
    assert f"## nginx 1.22.1\n\n{fidelity.HEAD}\n{row}\n" in text
    assert "| busiest share | `nginx, 3 workers` | 36 % | `nginx --wakeup exclusive` | 90 % | yes |" in text
    assert "Not installed: redis (`apt-get install redis-server`)." in text
    assert "Other programs" not in text


def test_page_says_that_other_work_ran_beside():
    busy = document()
    busy["rows"][0]["others"] = 0.4
    assert "Other programs took up to 40% of the processors" in fidelity.text(busy)


def test_full_run_is_stored_with_those_before_it(tmp_path):
    found = kept(tmp_path, document(agrees=None), document())
    stored = fidelity.read_stored(fidelity.store(found[0], found, tmp_path / "fidelity.json"))
    assert [list(run["words"].values()) for run in stored["runs"]] == [["inconclusive"], ["agrees"]]
    assert f"2 full runs at this commit; rows that came out otherwise in one of them: {NAME}." in fidelity.text(stored)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"effort": "quick"}, "no full run"),
        ({"command": "lab fidelity --only redis"}, "no full run"),
        ({"environment": {**WHERE, "commit": "abc+"}}, "in no commit"),
    ],
)
def test_other_runs_are_not_stored(tmp_path, more, why):
    found = kept(tmp_path, document(**more))
    with pytest.raises(ValueError, match=why):
        fidelity.store(found[0], found, tmp_path / "fidelity.json")


def test_run_has_a_page_and_a_line_in_the_index(tmp_path):
    (run,) = kept(tmp_path, document(agrees=False))
    assert "nginx --wakeup exclusive" in page.write(run).read_text()
    assert "1 unexplained" in page.write_index(tmp_path).read_text()
