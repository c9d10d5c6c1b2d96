"""Two stored runs, chosen on the page and compared."""

from __future__ import annotations

import asyncio
import json
import re

import httpx
import pytest
from fastapi import FastAPI
from support.loads import load

from lab.console import runs


@pytest.fixture
def results(tmp_path):
    for name, document in {
        "20261129T050000.000-load-nodejs": load(1),
        "20261129T050100.000-load-nodejs": load(2, milliseconds=22),
        "20261129T050200.000-<b>": {"experiment": "other", "arms": []},
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(json.dumps(document), encoding="utf-8")
    (tmp_path / "outside.json").write_text(json.dumps(load(3)), encoding="utf-8")
    return tmp_path


@pytest.fixture
def ask(results):
    """Ask for a comparison of these runs."""
    app = FastAPI()
    runs.add_comparison(app, results)

    async def get(*names):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            return await client.get(runs.PATH, params={"run": names})

    return lambda *names: asyncio.run(get(*names))


def test_form_offers_every_run_and_no_markup_of_theirs(results):
    html = runs.content(results)
    assert html.count("<option") == 6
    assert "&lt;b&gt;" in html
    assert "<b>" not in html


def test_two_runs_of_the_same_thing_are_proposed(results):
    (results / "20261129T050200.000-<b>" / "result.json").unlink()
    chosen = re.findall(r'<option value="([^"]*)" selected', runs.content(results))
    assert chosen == ["20261129T050000.000-load-nodejs", "20261129T050100.000-load-nodejs"]


def test_without_runs_it_says_how_to_make_them(tmp_path):
    assert "lab load" in runs.content(tmp_path)


def test_chosen_runs_are_compared(ask):
    found = ask("20261129T050000.000-load-nodejs", "20261129T050100.000-load-nodejs")
    assert found.status_code == 200
    assert "ifference: mean, p50" in found.text
    assert "<svg" in found.text


@pytest.mark.parametrize(
    ("chosen", "status"),
    [
        (["../outside.json", "20261129T050000.000-load-nodejs"], 404),
        (["2026", "2026"], 404),
        ([], 422),
        (["20261129T050000.000-load-nodejs", "20261129T050200.000-<b>"], 422),
    ],
)
def test_anything_else_is_refused_in_words(ask, chosen, status):
    found = ask(*chosen)
    assert found.status_code == status
    assert found.headers["content-type"].startswith("text/plain")
