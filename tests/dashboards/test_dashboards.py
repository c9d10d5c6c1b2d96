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
import yaml

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
REFERENCE = re.compile(r"\$\{?(\w+)")
BUILT_IN = {"__rate_interval"}
EXPERIMENTS = get_args(Experiment)
EXPERIMENT_LINK = re.compile(r"\$\{console:raw\}/experiments/([a-z-]+)")

DOCUMENTED = {
    "dashboard": "annotations description editable fiscalYearStartMonth gnetId graphTooltip id links liveNow panels refresh "
                 "revision schemaVersion snapshot style tags templating time timepicker timezone title uid version weekStart",
    "row": "collapsed datasource gridPos id panels repeat title type",
    "panel": "datasource description fieldConfig gridPos id interval libraryPanel links maxDataPoints options pluginVersion "
             "maxPerRow repeat repeatDirection repeatPanelId tags targets thresholds timeFrom timeRegions timeShift title "
             "transformations transparent type",
    "target": "datasource editorMode exemplar expr format hide instant interval intervalFactor legendFormat queryType range refId",
    "variable": "allFormat allValue allowCustomValue current datasource description hide id includeAll label multi "
                "name options query refresh regex skipUrlSync sort type",
    "dashboard link": "asDropdown icon includeVars keepTime tags targetBlank title tooltip type url",
    "data link": "targetBlank title url",
    "annotation": "builtIn datasource enable filter hide iconColor name rawQuery showIn target type",
    "fieldConfig": "defaults overrides",
    "fieldConfig.defaults": "color custom decimals description displayName displayNameFromDS filterable links mappings max "
                            "min noValue path thresholds unit writeable",
    "fieldConfig.defaults.thresholds": "mode steps",
    "fieldConfig.defaults.thresholds.steps": "color value",
    "fieldConfig.overrides": "matcher properties",
    "fieldConfig.overrides.matcher": "id options",
    "fieldConfig.overrides.properties": "id value",
    "timeseries fieldConfig.defaults.custom":
        "axisBorderShow axisCenteredZero axisColorMode axisGridShow axisLabel axisPlacement axisSoftMax axisSoftMin "
        "axisWidth barAlignment barMaxWidth barWidthFactor drawStyle fillBelowTo fillColor fillOpacity gradientMode hideFrom "
        "lineColor lineInterpolation lineStyle lineWidth pointColor pointSize pointSymbol scaleDistribution showPoints "
        "spanNulls stacking thresholdsStyle transform",
    "timeseries fieldConfig.defaults.custom.stacking": "group mode",
    "timeseries fieldConfig.defaults.custom.thresholdsStyle": "mode",
    "timeseries options": "legend timezone tooltip",
    "timeseries options.legend": "asTable calcs displayMode isVisible placement showLegend sortBy sortDesc width",
    "timeseries options.tooltip": "mode sort",
    "stat options": "colorMode graphMode justifyMode orientation percentChangeColorMode reduceOptions showPercentChange text "
                    "textMode wideLayout",
    "stat options.reduceOptions": "calcs fields limit values",
    "heatmap options": "calculate calculation cellGap cellRadius cellValues color exemplars filterValues legend rowsFrame "
                       "selectionMode showValue tooltip yAxis",
    "heatmap options.color": "exponent fill max min mode reverse scale scheme steps",
    "heatmap options.exemplars": "color",
    "heatmap options.filterValues": "ge le",
    "heatmap options.legend": "show",
    "heatmap options.tooltip": "mode yHistogram",
    "heatmap options.yAxis": "axisCenteredZero axisColorMode axisGridShow axisLabel axisPlacement axisSoftMax axisSoftMin "
                             "axisWidth decimals max min reverse scaleDistribution unit",
}  # fmt: skip
"""The fields that Grafana documents; it drops others without a word.

From the schema references that its documentation had from 9.4 to 10.4 (developers/kinds: core/dashboard, and of panels and
queries composable/…cfg), and for links, annotations and variables from "Dashboard JSON model" and what its editor exports.
"""


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
    assert {"datasource", "model"} <= {variable["name"] for variable in board["templating"]["list"]}


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
    asked = {name for query in queries for name in REFERENCE.findall(query)} - BUILT_IN
    assert asked | {"datasource", CONSOLE_VARIABLE} == declared


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_panel_says_what_to_look_for_and_in_what_unit(board, panel):
    assert len(panel["description"]) > 40
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["fieldConfig"]["defaults"].get("thresholds", {"steps": [{"value": None}]})["steps"][0]["value"] is None
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert [target["refId"] for target in panel["targets"]] == ["A", "B", "C", "D"][: len(panel["targets"])]
    assert all(target["legendFormat"] for target in panel["targets"])


def within(place: str, part: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The object, and those in it, with the way to each."""
    yield place, part
    for name, inner in part.items():
        for one in inner if isinstance(inner, list) else [inner]:
            if isinstance(one, dict):
                yield from within(f"{place}.{name}", one)


def parts(board: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Everything in a dashboard's JSON whose fields Grafana documents, with its kind."""
    yield "dashboard", board
    yield from (("variable", variable) for variable in board["templating"]["list"])
    yield from (("dashboard link", link) for link in board["links"])
    yield from (("annotation", annotation) for annotation in board["annotations"]["list"])
    for panel in board["panels"]:
        yield ("row" if panel["type"] == "row" else "panel"), panel
        yield from (("target", target) for target in panel.get("targets", []))
        for place, part in within("fieldConfig", panel.get("fieldConfig", {})):
            if place == "fieldConfig.defaults.links":
                yield "data link", part
            elif place.startswith("fieldConfig.defaults.custom"):
                yield f"{panel['type']} {place}", part
            elif place != "fieldConfig.overrides.properties.value":  # as the property that it is for has it
                yield place, part
        yield from ((f"{panel['type']} {place}", part) for place, part in within("options", panel.get("options", {})))


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_only_fields_that_grafana_documents(board):
    unknown = {
        (kind, field) for kind, part in parts(board) for field in part.keys() - set(DOCUMENTED.get(kind, "").split())
    }
    assert not unknown


def panels_of(kind: str) -> list[dict[str, Any]]:
    return [param.values[1] for param in PANELS if param.values[1]["type"] == kind]


def test_stacks_are_of_one_model_each():
    stacks = [
        panel
        for panel in panels_of("timeseries")
        if panel["fieldConfig"]["defaults"]["custom"].get("stacking", {}).get("mode") == "normal"
    ]
    assert stacks
    for panel in stacks:
        assert panel["repeat"] == "model"
        assert "$model" in panel["title"]


def test_repeated_panels_have_their_rows_for_themselves():
    for panel in (param.values[1] for param in PANELS):
        assert "repeat" not in panel or panel["gridPos"]["w"] == 24, panel["title"]


def test_limits_are_dashed_where_a_panel_shows_any():
    dashed = {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [10, 10]}}
    for panel in panels_of("timeseries"):
        shows = any(target["legendFormat"].endswith(" limit") for target in panel["targets"])
        overrides = panel["fieldConfig"]["overrides"]
        assert overrides == [{"matcher": {"id": "byRegexp", "options": "/ limit$/"}, "properties": [dashed]}] * shows
        if "(dashed)" in panel["description"]:
            assert shows, panel["title"]


def test_heatmaps_have_seconds_on_the_axis_requests_in_a_cell_and_links_in_the_tooltip():
    assert panels_of("heatmap")
    for panel in panels_of("heatmap"):
        assert panel["options"]["yAxis"]["unit"] == "s"
        assert panel["fieldConfig"]["defaults"]["unit"] == "reqps"
        assert panel["options"]["tooltip"]["mode"] == "single"


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_figures_of_a_namespace_say_of_which(board, panel):
    for target in panel["targets"]:
        assert ("lab_netstat_total" in target["expr"]) == ("{{scope}}" in target["legendFormat"])


def test_every_record_is_shown_or_used_by_another_rule():
    rules = [
        rule
        for path in RULES.glob("*.yml")
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]
    queries = [rule["expr"] for rule in rules]
    queries += [target["expr"] for param in PANELS for target in param.values[1]["targets"]]
    for record in (rule["record"] for rule in rules if "record" in rule):
        assert any(record in query for query in queries), record


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


def test_configuration_is_sound(require_tool):
    require_tool("promtool")
    done = subprocess.run(
        ["promtool", "check", "config", RULES.parent / "prometheus.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(list(RULES.glob('*.yml')))} rule files found" in done.stdout


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
