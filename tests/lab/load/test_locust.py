"""`make load`: Locust against a model that runs, and its refusals."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from support.tools import require_tool

from lab.load import locust
from lab.measure.histogram import Histogram
from lab.peers import nginx
from lab.peers.process import free_port


def test_load_on_what_runs_at_the_models_port(monkeypatch, capsys):
    require_tool("nginx")
    with nginx.start() as peer:
        monkeypatch.setenv("LAB_NGINX_PORT", str(peer.port))
        assert locust.run("nginx", 2, 10, 2, "keep-alive", ["--think", "0.01"]) == locust.GOOD
    printed = capsys.readouterr().out
    assert f"Load on nginx (127.0.0.1:{peer.port})" in printed
    assert "GET /" in printed
    assert "connect" in printed


def test_failures_give_exit_code_1(monkeypatch, capsys):
    require_tool("nginx")
    with nginx.start() as peer:
        monkeypatch.setenv("LAB_NGINX_PORT", str(peer.port))
        # It answers every GET of a key with "hello from nginx", which nobody has put there.
        extra = ["--think", "0.01", "--block", "0ms"]
        assert locust.run("nginx", 5, 50, 2, "mixed", extra) == locust.FAILURES
    assert "failed: WrongReplyError" in capsys.readouterr().out


def test_nothing_at_the_port_says_what_to_do(monkeypatch, capsys):
    monkeypatch.setenv("LAB_NGINX_PORT", str(free_port()))
    assert locust.run("nginx", 1, 1, 1, "keep-alive", []) == locust.BAD_USAGE
    assert "make lab-up" in capsys.readouterr().err


@pytest.mark.parametrize(("model", "kind", "named"), [("apache", "mixed", "nginx"), ("nginx", "slow", "keep-alive")])
def test_unknown_names_are_refused_with_those_that_exist(capsys, model, kind, named):
    assert locust.run(model, 1, 1, 1, kind, []) == locust.BAD_USAGE
    assert named in capsys.readouterr().err


def result(cpu):
    histogram = Histogram()
    histogram.observe(0.002)
    return {
        "target": {"model": "nginx", "host": "127.0.0.1", "port": 8004},
        "seconds": 1.0,
        "responses": [["nginx", "GET", "/", histogram.counts, histogram.sum_seconds]],
        "connects": [],
        "failures": [["nginx", "503", 0]],
        "connect_failures": [["nginx", "TimeoutError", 2]],
        "cpu": {"0": 0.2, "1": cpu},
    }


@pytest.mark.parametrize(("cpu", "warned"), [(0.95, True), (0.5, False)])
def test_saturated_generator_is_pointed_out(cpu, warned):
    console = Console(file=io.StringIO(), width=120)
    locust.report(result(cpu), console)
    assert ("saturated" in console.file.getvalue()) is warned
    assert "2 could not connect: TimeoutError" in console.file.getvalue()
    assert "503" not in console.file.getvalue()
