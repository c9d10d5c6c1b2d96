"""Findings of `lab advise`: the best server in a figure, those worse beyond noise, and the experiment that explains it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from lab.advise import tables
from lab.advise.finding import BLOCKING, CAPACITY, MEMORY, REASONS, WAITING, findings
from lab.advise.servers import NAMES, candidates
from lab.advise.tables import shown
from lab.experiments import all_experiments
from lab.measure.difference import figure_of
from lab.peers.application import Application
from services.options import MODELS

SHOP = Application("shop:app", Path())
BY_NAME = {candidate.name: candidate for candidate in candidates(SHOP, (2,), 2)}
STEADY = (1.0, 1.01, 0.99, 1.02, 0.98)
"""Values of five rounds, as multiples of what is to be their median."""


def rows(**figures):
    """{candidate: {figure: …}} of `{"nodejs": {figure: median}}`."""
    return {
        BY_NAME[f"{server} × 2"]: {
            name: figure_of([middle * part for part in STEADY], "1") for name, middle in given.items()
        }
        for server, given in figures.items()
    }


def found(made, figure):
    (entry,) = [each for each in made if each["figure"] == figure]
    return entry


def test_worse_server_is_named_with_how_much_and_why():
    made = findings(rows(nodejs={WAITING: 60.0, BLOCKING: 55.0}, ramcloud={WAITING: 6.0, BLOCKING: 55.0}))
    waiting = found(made, WAITING)
    (worse,) = waiting["worse"]
    assert (waiting["best"], worse["server"]) == ("ramcloud × 2", "nodejs × 2")
    assert worse["low"] < worse["times"] < worse["high"]
    assert worse["times"] == pytest.approx(10, rel=0.01)
    assert worse["experiment"] == "event-loop-blocking"
    assert found(made, BLOCKING)["worse"] == []


def test_more_requests_a_second_are_better():
    assert found(findings(rows(nginx={CAPACITY: 900}, nodejs={CAPACITY: 500})), CAPACITY)["best"] == "nginx × 2"


def test_nothing_is_said_to_block_where_nothing_blocks():
    (worse,) = found(findings(rows(nodejs={WAITING: 60.0}, ramcloud={WAITING: 6.0})), WAITING)["worse"]
    assert worse["why"] is None


def test_servers_within_the_noise_are_as_good():
    made = findings(rows(nginx={MEMORY: 40.0}, reuseport={MEMORY: 40.1}))
    assert (found(made, MEMORY)["as_good"], found(made, MEMORY)["worse"]) == (["reuseport × 2"], [])


def test_table_of_one_server_is_shown():
    row = {"server": "nginx", "workers": 2, "failed": 0, "figures": {MEMORY: {"median": 40.0}}}
    document = {
        "application": "shop:app", "rates": {"cheap": 1.0, "blocking": 0.0}, "routes": {"blocking": []}, "rows": [row],
        "findings": [], "left_out": [], "others_cpu_ratio": 0.0,
    }  # fmt: skip
    console = Console(file=io.StringIO(), width=100)
    for each in shown(document):
        console.print(each)
    assert "nginx × 2" in console.file.getvalue()


def test_two_rounds_decide_nothing():
    few = {
        candidate: {WAITING: figure_of([value, value], "ms")}
        for candidate, value in zip(BY_NAME.values(), (1, 9), strict=False)
    }
    entry = found(findings(few), WAITING)
    assert (entry["worse"], len(entry["undecided"])) == ([], 1)
    assert [str(line) for line in tables._finding(entry)] == [f"{WAITING}: too few rounds to tell"]


@pytest.mark.parametrize(("key", "reason"), REASONS.items(), ids=str)
def test_reasons_name_servers_and_experiments_that_there_are(key, reason):
    assert key[1] in NAMES
    assert reason.experiment in {each.name for each in all_experiments()}


def test_each_model_is_tried_with_each_number_of_workers():
    tried = list(candidates(SHOP, (1, 2, 2), 2))
    assert [each.name for each in tried if each.kind == "model"] == [
        f"{name} × {count}" for name in MODELS for count in (1, 2)
    ]
    assert [(each.server, each.workers) for each in tried if each.kind == "peer"] == [
        ("gunicorn-gthread", 5), ("uvicorn", 2),
    ]  # fmt: skip
