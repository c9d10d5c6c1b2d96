"""Every panel's and every rule's query, on a real Prometheus that has scraped the five models under load.

With every value of every variable: an empty panel is a failure, and so is a query that costs Prometheus much. Where 0
stands in for what there is none of, what it stands in for is asked alone, too: a misspelt metric must not look like calm.
"""

from __future__ import annotations

import json
import math
import re
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from support.servers import wait_until
from support.stack import Stack

from dashboards import build
from dashboards.promql import OR_ZERO
from services.options import MODELS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

BOARDS = {name: json.loads(text) for name, text in build.build().items()}
RULES = [
    rule
    for path in (Path(build.__file__).parent / "prometheus/rules").glob("*.yml")
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
LOAD_SECONDS = 4.0
"""For each model in turn."""
STEP_SECONDS = 5
CLIENT = httpx.Client(trust_env=False, timeout=30)
"""One for all: making a client takes longer than most of the queries."""
RATE_INTERVALS = ("8s", "30s", "1m", "5m")
"""What `$__rate_interval` may be: four times the least step of a query, and more over longer ranges."""
MOST_SAMPLES = 40_000
"""Samples that a query may touch for one step, with four workers a model, everything chosen and rates over 8 s: eight scrapes
of each of its series. The dearest reads all buckets of six stages of five models. Rates over 5 min touch thirty times as many;
a stack that is a minute old cannot show that, so only the first of the intervals is held to this."""
FILTER = re.compile(r" >=? 0$")
"""What is 0, or NaN, is left out of a panel, but is there for the asking."""


@pytest.fixture(scope="module")
def busy(stack: Stack) -> tuple[Stack, float]:
    """A stack that has been under load, model after model, and since when."""
    done = stack.make("lab-up")
    assert done.returncode == 0, done.stdout + done.stderr
    began = time.time()
    for model in MODELS:
        load(stack, model)
    wait_until(lambda: recorded(stack, began) == set(MODELS), 30, "figures of every model at a step of the range")
    return stack, began


def recorded(stack: Stack, began: float) -> set[str]:
    series, _ = ask(stack, "model:lab_imbalance:max_mean", began)
    return {one["metric"]["model"] for one in series if not is_empty([one])}


def load(stack: Stack, model: str) -> None:
    stack.swarm("MixedUser", "ConnectionPerRequestUser", user_count=4, spawn_rate=4, host=stack.url(model))
    until = time.monotonic() + LOAD_SECONDS
    number = 0
    while time.monotonic() < until:
        number += 1
        key = {"Idempotency-Key": f'"{model}-{number // 2}"'}
        CLIENT.post(f"{stack.url(model)}/counters/c", headers=key)
        time.sleep(0.05)
    stack.stop_swarm()


def ask(stack: Stack, expression: str, began: float) -> tuple[list[dict[str, Any]], float]:
    """The series, and how many samples Prometheus touched for one step of them."""
    now = time.time()
    answer = CLIENT.post(
        f"{stack.url('prometheus')}/api/v1/query_range",
        data={"query": expression, "start": began, "end": now, "step": STEP_SECONDS, "stats": "true"},
    )
    data = answer.json()
    assert data["status"] == "success", (expression, data)
    steps = (now - began) // STEP_SECONDS + 1
    return data["data"]["result"], data["data"]["stats"]["samples"]["totalQueryableSamples"] / steps


def values_of(stack: Stack) -> dict[str, list[str]]:
    """All that can be chosen for each variable."""
    url = f"{stack.url('prometheus')}/api/v1/label/worker/values"
    answer = CLIENT.get(url, params={"match[]": "lab_requests_total"})
    workers = answer.raise_for_status().json()["data"]
    assert workers == ["0", "1", "2", "3", "main"]
    return {"model": [".+", *MODELS], "worker": [".+", *workers], "__rate_interval": list(RATE_INTERVALS)}


def filled_in(expression: str, choices: dict[str, str]) -> str:
    for variable, chosen in choices.items():
        expression = expression.replace(f"${variable}", chosen)
    return expression


def expressions(panel: dict[str, Any], values: dict[str, list[str]]) -> dict[str, str]:
    """The panel's queries, with each value of each of their variables while the others are as they are at first."""
    first = {name: some[0] for name, some in values.items()}
    asked = {}
    for target in panel.get("targets", []):
        if OR_ZERO in target["expr"]:
            values_alone = FILTER.sub("", target["expr"].partition(OR_ZERO)[0])
            asked[filled_in(values_alone, first)] = f"{target['refId']} without the zeros"
        for name, some in values.items():
            for value in some:
                # Most of the variables are in few of the queries: the same question is asked once.
                asked.setdefault(
                    filled_in(target["expr"], {**first, name: value}), f"{target['refId']} with {name}={value}"
                )
    return asked


def is_empty(series: list[dict[str, Any]]) -> bool:
    return not any(math.isfinite(float(value)) for one in series for _, value in one["values"])


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_no_panel_is_empty_or_dear(busy, board):
    stack, began = busy
    values = values_of(stack)
    wrong = []
    for panel in board["panels"]:
        for expression, what in expressions(panel, values).items():
            series, samples = ask(stack, expression, began)
            if is_empty(series):
                wrong.append(f"{panel['title']}, {what}: nothing\n  {expression}")
            if samples > MOST_SAMPLES and not what.endswith(
                tuple(f"__rate_interval={one}" for one in RATE_INTERVALS[1:])
            ):
                wrong.append(f"{panel['title']}, {what}: {samples:.0f} samples\n  {expression}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: name_of(rule))
def test_no_rule_is_dear(busy, rule):
    stack, began = busy
    _, samples = ask(stack, rule["expr"], began)
    assert 0 < samples <= MOST_SAMPLES, f"{samples:.0f} samples for each evaluation"


def name_of(rule: dict[str, Any]) -> str:
    return rule.get("record") or rule["alert"]


def test_every_rule_is_loaded_and_healthy(busy):
    stack, _ = busy
    url = f"{stack.url('prometheus')}/api/v1/rules"

    def rules() -> dict[str, dict[str, Any]]:
        groups = CLIENT.get(url).raise_for_status().json()["data"]["groups"]
        return {rule["name"]: rule for group in groups for rule in group["rules"]}

    assert rules().keys() == {name_of(rule) for rule in RULES}
    wait_until(lambda: {rule["health"] for rule in rules().values()} == {"ok"}, what="an evaluation of every rule")


@pytest.mark.parametrize("record", [rule["record"] for rule in RULES if "record" in rule])
def test_recorded_series_are_there_for_every_model(busy, record):
    stack, began = busy
    series, _ = ask(stack, record, began)
    assert {one["metric"]["model"] for one in series if not is_empty([one])} == set(MODELS)
