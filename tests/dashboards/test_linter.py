"""The rules of grafana/dashboard-linter, by their names there, on our own dashboards.

It is a program in Go, which no package index has. Its rules are few; each is a function here that returns complaints. A rule
that does not fit is excluded with its reason, as its `.lint` file would have it; an exclusion that is not needed is a failure.
"""

from __future__ import annotations

import copy
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from dashboards import build

Json = dict[str, Any]
BOARDS: dict[str, Json] = {name: json.loads(text) for name, text in build.build().items()}
SHOWING = {"stat", "timeseries", "heatmap", "gauge", "table"}
"""Types of panels that ask a data source. The linter knows no heatmaps; ours keep its rules, too."""
UNITS = {"short", "none", "percent", "percentunit", "bytes", "s", "ms", "cps", "ops", "reqps", "bool_on_off"}
"""Those of Grafana's that we use; the linter lists some 250."""
LABEL_FUNCTIONS = {"label_names", "label_values", "metrics", "query_result"}
SAMPLE_VALUES = {"$__rate_interval": "8s", "$__interval": "2s", "$model": ".+", "$worker": ".+"}

EXCLUSIONS = {
    "template-job-rule": "a job is a way of finding targets; readers choose a model, whichever job scrapes it",
    "template-instance-rule": "an instance is one server, and its series have that server's name as `model`",
    "target-job-rule": "there is no variable `job` to match, and metrics of different jobs have different names",
    "target-instance-rule": "there is no variable `instance` to match; queries match `model`",
    "uneditable-dashboard": "people are to try their own queries; files that are provisioned cannot be overwritten",
}
"""Rules that our dashboards do not keep, and why."""


def variables(board: Json, kind: str) -> list[Json]:
    return [variable for variable in board["templating"]["list"] if variable["type"] == kind]


def panels(board: Json) -> Iterator[Json]:
    """Those that show something a data source knows, also below rows that are folded."""
    for panel in board["panels"]:
        yield from (one for one in (panel, *panel.get("panels", [])) if one["type"] in SHOWING)


def targets(board: Json) -> Iterator[tuple[str, str]]:
    for panel in panels(board):
        yield from ((panel["title"], target["expr"]) for target in panel.get("targets", []))


def required_variable(name: str) -> Callable[[Json], list[str]]:
    def check(board: Json) -> list[str]:
        found = [one for one in variables(board, "query") if one["name"] == name]
        good = [one for one in found if one["multi"] and one["allValue"] == ".+" and one["label"] == name]
        return [] if good else [f"no variable {name} whose values can be chosen"]

    return check


def required_matcher(name: str) -> Callable[[Json], list[str]]:
    def check(board: Json) -> list[str]:
        return [f"{title}: {expr}" for title, expr in targets(board) if f'{name}=~"${name}"' not in expr]

    return check


def template_datasource(board: Json) -> list[str]:
    names = [(one["name"], one["label"]) for one in variables(board, "datasource")]
    return [] if names == [("datasource", "Data source")] else [f"data source variables: {names}"]


def template_label_promql(board: Json) -> list[str]:
    wrong = []
    for variable in variables(board, "query"):
        query = variable["query"]
        call = re.fullmatch(r"(\w+)\((.+)\)", query if isinstance(query, str) else query["query"])
        if not call or call[1] not in LABEL_FUNCTIONS:
            wrong.append(f"{variable['name']}: {query}")
    return wrong


def template_on_time_change_reload(board: Json) -> list[str]:
    return [one["name"] for one in variables(board, "query") if one["refresh"] != 2]


def panel_datasource(board: Json) -> list[str]:
    return [
        panel["title"] for panel in panels(board) if panel["datasource"]["uid"] not in {"$datasource", "${datasource}"}
    ]


def panel_title_description(board: Json) -> list[str]:
    return [str(panel["id"]) for panel in panels(board) if not (panel.get("title") and panel.get("description"))]


def panel_units(board: Json) -> list[str]:
    return [panel["title"] for panel in panels(board) if panel["fieldConfig"]["defaults"].get("unit") not in UNITS]


def panel_no_targets(board: Json) -> list[str]:
    return [panel["title"] for panel in panels(board) if not panel.get("targets")]


def target_promql(board: Json) -> list[str]:
    """promtool is the judge of the syntax; Grafana's variables have values then."""
    rules = []
    for title, expr in targets(board):
        for variable, value in SAMPLE_VALUES.items():
            expr = expr.replace(variable, value)
        rules.append({"record": "lint:query:parsed", "expr": expr, "labels": {"title": f"{len(rules)} {title}"}})
    text = yaml.safe_dump({"groups": [{"name": "lint", "rules": rules}]})
    done = subprocess.run(
        ["promtool", "check", "rules", "/dev/stdin"], input=text, capture_output=True, text=True, check=False
    )
    return [] if done.returncode == 0 else [done.stdout + done.stderr]


def target_rate_interval(board: Json) -> list[str]:
    ranges = re.compile(r"\bi?rate\([^[]*\[([^]]*)\]")
    return [f"{title}: {expr}" for title, expr in targets(board) if set(ranges.findall(expr)) - {"$__rate_interval"}]


def target_counter_agg(board: Json) -> list[str]:
    counters = re.compile(r"(\w*\()?(?<!\w)[a-zA-Z_:][\w:]*_total\b")
    return [
        f"{title}: {expr}"
        for title, expr in targets(board)
        if any(call not in {"rate(", "irate(", "increase("} for call in counters.findall(expr))
    ]


def target_logql(board: Json) -> list[str]:
    """Of Loki there is nothing to check: no panel may ask one."""
    sources = ((panel["title"], panel["datasource"].get("type")) for panel in panels(board))
    return [title for title, kind in sources if kind == "loki"]


def uneditable(board: Json) -> list[str]:
    return ["editable"] if board["editable"] else []


RULES: dict[str, Callable[[Json], list[str]]] = {
    "template-datasource-rule": template_datasource,
    "template-job-rule": required_variable("job"),
    "template-instance-rule": required_variable("instance"),
    "template-label-promql-rule": template_label_promql,
    "template-on-time-change-reload-rule": template_on_time_change_reload,
    "panel-datasource-rule": panel_datasource,
    "panel-title-description-rule": panel_title_description,
    "panel-units-rule": panel_units,
    "panel-no-targets-rule": panel_no_targets,
    "target-logql-rule": target_logql,
    "target-logql-auto-rule": target_logql,
    "target-promql-rule": target_promql,
    "target-rate-interval-rule": target_rate_interval,
    "target-job-rule": required_matcher("job"),
    "target-instance-rule": required_matcher("instance"),
    "target-counter-agg-rule": target_counter_agg,
    "uneditable-dashboard": uneditable,
}


@pytest.fixture(autouse=True)
def parser_of_promql(require_tool):
    require_tool("promtool")


@pytest.mark.parametrize("rule", sorted(RULES.keys() - EXCLUSIONS.keys()))
@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_dashboard_keeps(board, rule):
    assert RULES[rule](board) == []


@pytest.mark.parametrize("rule", EXCLUSIONS)
def test_exclusion_is_needed(rule):
    assert all(RULES[rule](board) for board in BOARDS.values())


def query(text: str) -> Callable[[Json], None]:
    def change(board: Json) -> None:
        next(panels(board))["targets"][0]["expr"] = text

    return change


def of_panel(**fields: Any) -> Callable[[Json], None]:
    return lambda board: next(panels(board)).update(fields)


def of_variable(kind: str, **fields: Any) -> Callable[[Json], None]:
    return lambda board: variables(board, kind)[0].update(fields)


BREAKS: list[tuple[str, Callable[[Json], None]]] = [
    ("template-datasource-rule", of_variable("datasource", name="source")),
    ("template-label-promql-rule", of_variable("query", query="models(lab_info)")),
    ("template-on-time-change-reload-rule", of_variable("query", refresh=1)),
    ("panel-datasource-rule", of_panel(datasource={"type": "prometheus", "uid": "lab-prometheus"})),
    ("panel-title-description-rule", of_panel(description="")),
    ("panel-units-rule", of_panel(fieldConfig={"defaults": {"unit": "requests"}})),
    ("panel-no-targets-rule", of_panel(targets=[])),
    ("target-logql-rule", of_panel(datasource={"type": "loki", "uid": "$datasource"})),
    ("target-logql-auto-rule", of_panel(datasource={"type": "loki", "uid": "$datasource"})),
    ("target-promql-rule", query("sum by (model (lab_info)")),
    ("target-rate-interval-rule", query("sum(rate(lab_requests_total[5m]))")),
    ("target-rate-interval-rule", query('irate(lab_requests_total{model=~"$model"}[$__interval])')),
    ("target-counter-agg-rule", query("sum(lab_requests_total)")),
    ("target-counter-agg-rule", query('lab_requests_total{model=~"$model"}')),
]


@pytest.mark.parametrize(("rule", "break_it"), BREAKS)
def test_rule_finds_what_breaks_it(rule, break_it):
    board = copy.deepcopy(BOARDS["lab-compare.json"])
    assert RULES[rule](board) == []
    break_it(board)
    assert RULES[rule](board) != []


def test_every_rule_that_holds_can_fail():
    assert {rule for rule, _ in BREAKS} == RULES.keys() - EXCLUSIONS.keys()
