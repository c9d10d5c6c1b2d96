"""The dashboards' own rules: what is committed is what the code builds, and nobody has to guess what a panel means."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, get_args

import pytest

from dashboards import build
from dashboards.parts import CONSOLE, CONSOLE_VARIABLE, Experiment
from lab.experiments import all_experiments

RULES = Path(build.__file__).parent / "prometheus" / "rules"
BOARDS = {name: json.loads(text) for name, text in build.build().items()}
PANELS = [
    pytest.param(board, panel, id=f"{board['uid']}: {panel['title']}")
    for board in BOARDS.values()
    for panel in board["panels"]
    if panel["type"] != "row"
]
REFERENCE = re.compile(r"\$(\w+)")
EXPERIMENTS = get_args(Experiment)
EXPERIMENT_LINK = re.compile(r"\$\{console:raw\}/experiments/([a-z-]+)")

DOCUMENTED = {
    "dashboard": "annotations description editable fiscalYearStartMonth graphTooltip links panels refresh schemaVersion "
                 "style tags templating time timezone title uid",
    "row": "collapsed gridPos id panels title type",
    "panel": "datasource description fieldConfig gridPos id options repeatDirection targets title transformations "
             "transparent type",
    "target": "datasource expr format instant legendFormat range refId",
    "variable": "allValue auto auto_count auto_min current datasource hide id includeAll label multi name query refresh "
                "skipUrlSync sort type",
    "field": "color custom links max min thresholds unit",
    "dashboard link": "asDropdown icon includeVars keepTime tags targetBlank title tooltip type url",
    "data link": "targetBlank title url",
    "annotation": "datasource enable hide iconColor name target",
}  # fmt: skip
"""The fields that Grafana's JSON model documents and that we use. It drops others without a word."""


def test_committed_files_are_what_the_code_builds():
    committed = {path.name: path.read_text() for path in build.FOLDER.glob("*.json")}
    assert committed == build.build(), "run `make dashboards`"


def test_what_the_issue_asks_for_is_there():
    assert {board["title"] for board in BOARDS.values()} >= {
        "Compare the five models", "Anatomy of a request", "Kernel queues", "Workers", "Load", "Idempotency",
    }  # fmt: skip


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_dashboard_can_be_found_kept_and_left(board):
    assert re.fullmatch(r"lab-[a-z-]{1,36}", board["uid"])
    assert "accept-lab" in board["tags"]
    assert board["description"]
    assert board["links"][0]["tags"] == ["accept-lab"]
    assert board["annotations"]["list"][0]["target"]["tags"] == ["lab"]
    assert int(board["refresh"].removesuffix("s")) >= 5
    assert {"model", "interval"} <= {variable["name"] for variable in board["templating"]["list"]}


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_panels_have_numbers_and_places_of_their_own(board):
    numbers = [panel["id"] for panel in board["panels"]]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    places = [panel["gridPos"] for panel in board["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert apart or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"], (one, other)


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_every_variable_is_used_and_no_other(board):
    declared = {variable["name"] for variable in board["templating"]["list"]}
    queries = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    assert {name for query in queries for name in REFERENCE.findall(query)} | {CONSOLE_VARIABLE} == declared


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_panel_says_what_to_look_for_and_in_what_unit(board, panel):
    assert len(panel["description"]) > 40
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["fieldConfig"]["defaults"].get("thresholds", {"steps": [{"value": None}]})["steps"][0]["value"] is None
    assert panel["datasource"] == {"type": "prometheus", "uid": "lab-prometheus"}
    assert [target["refId"] for target in panel["targets"]] == ["A", "B", "C", "D"][: len(panel["targets"])]
    assert all(target["legendFormat"] for target in panel["targets"])


def parts(board: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Everything in a dashboard's JSON whose fields Grafana documents, with its kind."""
    yield "dashboard", board
    yield from (("variable", variable) for variable in board["templating"]["list"])
    yield from (("dashboard link", link) for link in board["links"])
    yield from (("annotation", annotation) for annotation in board["annotations"]["list"])
    for panel in board["panels"]:
        yield ("row" if panel["type"] == "row" else "panel"), panel
        yield from (("target", target) for target in panel.get("targets", []))
        defaults = panel.get("fieldConfig", {}).get("defaults", {})
        yield "field", defaults
        yield from (("data link", link) for link in defaults.get("links", []))


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_only_fields_that_grafana_documents(board):
    unknown = {(kind, field) for kind, part in parts(board) for field in part.keys() - set(DOCUMENTED[kind].split())}
    assert not unknown


def links(panel: dict[str, Any]) -> list[str]:
    return [link["url"] for link in panel["fieldConfig"]["defaults"].get("links", [])]


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_links_lead_to_experiments_in_the_console(board, panel):
    console = next(one for one in board["templating"]["list"] if one["name"] == CONSOLE_VARIABLE)
    assert (console["type"], console["query"], console["hide"]) == ("constant", CONSOLE, 2)
    names = [EXPERIMENT_LINK.fullmatch(link)[1] for link in links(panel)]
    assert set(names) <= set(EXPERIMENTS)
    assert len(names) == len(set(names))


def test_every_experiment_is_behind_some_panel():
    linked = {url for panel in PANELS for url in links(panel.values[1])}
    assert {EXPERIMENT_LINK.fullmatch(url)[1] for url in linked} == set(EXPERIMENTS)
    assert set(EXPERIMENTS) <= {experiment.name for experiment in all_experiments()}


def test_rules_are_sound(require_tool):
    require_tool("promtool")
    done = subprocess.run(
        ["promtool", "check", "rules", "--lint-fatal", *RULES.glob("*.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_compute_and_warn_as_they_should(require_tool, tmp_path):
    require_tool("promtool")
    for path in (*RULES.glob("*.yml"), Path(__file__).with_name("rules.test.yml")):
        shutil.copy(path, tmp_path)
    done = subprocess.run(
        ["promtool", "test", "rules", "rules.test.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
