"""Loads that the page starts are `lab load`, one a model, and end when they should."""

from __future__ import annotations

import json
import sys

import pytest
import yaml
from support.servers import alive, wait_until
from typer.testing import CliRunner

from lab import cli
from lab.console import tryit
from lab.console.loads import PRESETS, Load, LoadError, Loads
from lab.load import locust as measuring
from lab.load.result import Repeat, described
from lab.stack import variables
from loadtests.histogram import Histogram
from loadtests.kinds import KINDS
from services.options import MODELS


def test_whatever_is_chosen_is_a_command_that_lab_takes(monkeypatch):
    asked = []
    monkeypatch.setattr(measuring, "make", lambda given, **_: asked.append(given) or 0)
    for values in [{}, *PRESETS.values(), {"requests": "heavy", "keep_alive": False}]:
        load = Load(model="reuseport", **values)
        done = CliRunner().invoke(cli.app, load.arguments())
        assert done.exit_code == 0, done.output
        made = asked.pop()
        assert (made.models, made.users, made.rate, made.seconds) == (
            ("reuseport",), load.users, load.rate, load.seconds,
        )  # fmt: skip
        assert made.kind in KINDS
        assert ("--no-keep-alive" in made.extra) == (load.requests == "heavy" and not load.keep_alive)
    assert Load().command() == "lab load nginx --users 50 --rate 50 --seconds 30 --kind keep-alive -- --think 0.01"


@pytest.fixture
def loads():
    made = []

    def with_program(code):
        made.append(Loads((sys.executable, "-c", code)))
        return made[-1]

    yield with_program
    for one in made:
        one.close()


SLEEPING = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"


def test_second_load_on_a_model_waits_for_the_first(loads):
    own = loads(SLEEPING)
    own.start(Load("nginx"))
    with pytest.raises(LoadError, match="under load already"):
        own.start(Load("nginx"))
    own.start(Load("nodejs"))
    assert own.runs("nginx")
    assert "50 users on nginx for 30 s" in own.last("nginx").status()


def test_stopped_load_takes_what_it_has_started_with_it(loads):
    own = loads(SLEEPING)
    own.start(Load("nginx"))
    pid = own.last("nginx").process.pid
    import psutil

    wait_until(lambda: psutil.Process(pid).children())
    (child,) = psutil.Process(pid).children()
    own.stop("nginx")
    assert not own.runs("nginx")
    assert own.last("nginx").status() == "stopped"
    wait_until(lambda: not alive(child.pid))


def test_load_that_cannot_run_says_why_in_one_line(loads):
    own = loads("import sys; print('noise'); print('lab: nothing answers', file=sys.stderr); sys.exit(2)")
    own.start(Load("nginx"))
    own.last("nginx").process.wait(10)
    assert own.last("nginx").status() == "did not run: lab: nothing answers"


@pytest.mark.parametrize(("code", "words"), [(0, "nothing failed"), (1, "failed"), (3, "saturated")])
def test_outcome_is_what_the_exit_code_says(loads, code, words):
    own = loads(f"raise SystemExit({code})")
    own.start(Load("nginx"))
    own.last("nginx").process.wait(10)
    assert words in own.last("nginx").status()


def test_load_that_has_ended_shows_its_quantiles(loads):
    times = Histogram()
    for _ in range(20_000):
        times.record_seconds(0.0011)
    target = {"model": "nginx", "host": "127.0.0.1", "port": 1}
    result = {"target": target, "seconds": 2.0, "responses": [["nginx", "GET", "/", times.to_json()]], "connects": []}
    result |= {"failures": [], "connect_failures": [], "cpu": {"0": 0.5}, "series": [], "no_response": [["nginx", 3]]}
    repeat = described(Repeat(0, "nginx", None, result, 1))
    text = json.dumps({"repeats": [repeat]})
    own = loads(f"import sys; print('a warning'); print({text!r} if '--json' in sys.argv else '')")
    own.start(Load("nginx"))
    own.last("nginx").process.wait(10)
    shown = "p50 1.10, p90 1.10, p99 1.10, p99.9 1.10, max 1.10"
    assert own.last("nginx").figures() == [
        f"GET /, 20,000 in ms: {shown}", "3 requests had no response at the end",
    ]  # fmt: skip


@pytest.mark.parametrize("code", ["import time; time.sleep(60)", "print('{ no JSON')", "print('{}')", "print()"])
def test_load_without_figures_shows_none(loads, code):
    own = loads(code)
    own.start(Load("nginx"))
    if "sleep" not in code:
        own.last("nginx").process.wait(10)
    assert own.last("nginx").figures() == []


@pytest.mark.parametrize("wrong", [{"users": 0}, {"users": 10**6}, {"seconds": 0}, {"rate": 0.0}])
def test_loads_out_of_bounds_are_refused(loads, wrong):
    with pytest.raises(LoadError, match="give 1 to"):
        loads("").start(Load(**wrong))


def test_output_of_a_load_is_closed_with_the_next_on_its_model(loads):
    own = loads("raise SystemExit(0)")
    own.start(Load("nginx"))
    first = own.last("nginx")
    first.process.wait(10)
    own.start(Load("nginx"))
    assert first.output.closed
    assert not own.last("nginx").output.closed


def test_number_of_workers_is_offered_where_it_means_something():
    offered = {model: {option.name for option in tryit.offered(model)} for model in MODELS}
    assert "cluster" in offered["nodejs"]
    assert [model for model, names in offered.items() if "workers" not in names] == ["nodejs"]
    assert all("backlog" in names for names in offered.values())


def test_change_that_is_refused_is_one_line(monkeypatch):
    def refuse(model, changes):
        raise tryit.control.ControlError(f"{model}: no {changes[0]}")

    monkeypatch.setattr(tryit.control, "change", refuse)
    assert tryit.change("nginx", ["workers=x"]) == "nginx: no workers=x"


@pytest.mark.parametrize(("value", "text"), [(2.0, "2"), (0.5, "0.5"), (True, "true"), ("herd", "herd"), (4, "4")])
def test_values_are_spelled_as_lab_set_takes_them(value, text):
    assert tryit.spelled(value) == text


def test_options_on_hosts_are_a_line_that_ansible_takes():
    line = tryit.in_the_inventory("nginx", ["workers=3", "wakeup=herd", "require-key=true"])
    options = yaml.safe_load(line)["lab_model_options"]
    assert options == {"nginx": {"workers": 3, "wakeup": "herd", "require-key": True}}
    assert list(variables.faults({}, options)) == []
