"""`make load`: Locust against a model that runs, and its refusals."""

from __future__ import annotations

import io
import json
import resource
import sys

import pytest
from rich.console import Console
from support.tools import require_tool

from lab.grafana import annotate
from lab.load import locust
from lab.load.result import FAILURES, GOOD, SATURATED_EXIT, Repeat, described, exit_code, report
from lab.peers import nginx
from lab.peers.process import free_port
from loadtests.histogram import Histogram

RAN = {GOOD, SATURATED_EXIT}
"""On a machine that others use, too, the generator may have had too little of it."""


@pytest.fixture(autouse=True)
def folder_of_its_own(kept):
    pass


def run(model, users, rate, seconds, kind, extra, **options):
    load = locust.Load((model,), users, rate, seconds, kind, extra=tuple(extra))
    return locust.make(load, **options)


def test_load_on_what_runs_at_the_models_port(monkeypatch, capsys):
    require_tool("nginx")
    with nginx.start() as peer:
        monkeypatch.setenv("LAB_NGINX_PORT", str(peer.port))
        assert run("nginx", 2, 10, 2, "keep-alive", ["--think", "0.01"]) in RAN
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
        assert run("nginx", 5, 50, 2, "mixed", extra) == FAILURES
    assert "failed: WrongReplyError" in capsys.readouterr().out


@pytest.fixture
def limit():
    """Set the limit on descriptors; the hard one stays, for the tests that follow."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield lambda soft: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(("users", "warned"), [(50, False), (960, False), (961, True), (5000, True)])
def test_fewer_descriptors_than_users_is_said_before_the_load(monkeypatch, users, warned):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (512, 1024))
    assert ("and the limit is 1024" in locust.too_few_descriptors(users)) == warned
    assert ("ulimit -Hn" in locust.too_few_descriptors(users)) == warned


def test_warning_comes_before_the_load(monkeypatch, capsys):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (512, 1024))
    monkeypatch.setattr(locust, "_check", lambda _: None)
    monkeypatch.setattr(locust, "_made", lambda *_: print("load", file=sys.stderr) or {"exit_code": 0})
    assert run("nginx", 5000, 50, 1, "keep-alive", []) == GOOD
    warning, load = capsys.readouterr().err.splitlines()
    assert "5000 users need 5064 file descriptors" in warning
    assert load == "load"


def test_soft_limit_is_raised_for_the_users(limit):
    limit(256)
    locust.allow_descriptors(300)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 364
    locust.allow_descriptors(10)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 364


def test_nothing_at_the_port_says_what_to_do(monkeypatch, capsys):
    monkeypatch.setenv("LAB_NGINX_PORT", str(free_port()))
    assert run("nginx", 1, 1, 1, "keep-alive", []) == locust.BAD_USAGE
    assert "make lab-up" in capsys.readouterr().err


def test_locust_writes_into_the_runs_folder_which_a_kill_leaves_to_prune(monkeypatch, tmp_path):
    commands = []
    monkeypatch.setattr(locust, "_followed", lambda command, *_: commands.append(command) or 1)
    with pytest.raises(locust.LoadError):
        locust.one(locust.Load(("nginx",)), tmp_path, "run-0", 0, None)
    (command,) = commands
    assert command[command.index("--result-file") + 1].startswith(f"{tmp_path}/")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("model", "kind", "named"), [("apache", "mixed", "nginx"), ("nginx", "slow", "keep-alive")])
def test_unknown_names_are_refused_with_those_that_exist(capsys, model, kind, named):
    assert run(model, 1, 1, 1, kind, []) == locust.BAD_USAGE
    assert named in capsys.readouterr().err


def result(cpu=0.1, times=(0.002,), **more):
    histogram = Histogram()
    for seconds in times:
        histogram.record_seconds(seconds)
    return {
        "target": {"model": "nginx", "host": "127.0.0.1", "port": 8004},
        "seconds": 1.0,
        "responses": [["nginx", "GET", "/", histogram.to_json()]],
        "connects": [],
        "failures": [["nginx", "503", 0]],
        "connect_failures": [["nginx", "TimeoutError", 2]],
        "cpu": {"0": 0.2, "1": cpu},
        **more,
    }


@pytest.mark.parametrize(("cpu", "warned"), [(0.95, True), (0.5, False)])
def test_saturated_generator_is_pointed_out(cpu, warned):
    console = Console(file=io.StringIO(), width=120)
    report(result(cpu), console)
    assert ("saturated" in console.file.getvalue()) is warned
    assert "2 could not connect: TimeoutError" in console.file.getvalue()
    assert "503" not in console.file.getvalue()


def printed(result):
    console = Console(file=io.StringIO(), width=120)
    report(result, console)
    return console.file.getvalue()


def cells(text, name):
    line = next(line.strip() for line in text.splitlines() if line.strip().startswith(f"{name}  "))
    return line.removeprefix(name).split()


def test_20000_values_of_one_time_are_shown_as_that_time():
    text = printed(result(times=[0.0011] * 20_000))
    assert cells(text, "GET /") == ["20,000", "20,000", *["1.10"] * 6]


def test_table_shows_quantiles_and_the_largest():
    times = [number / 100_000 for number in range(1, 10_001)]  # 0.01 to 100 ms
    _, _, mean, p50, p90, p99, p999, most = cells(printed(result(times=times)), "GET /")
    shown = [float(cell) for cell in (mean, p50, p90, p99, p999, most)]
    assert shown == pytest.approx([50.0, 50, 90, 99, 99.9, 100], rel=0.011)


def test_table_fits_where_nobody_has_said_how_wide_a_terminal_is():
    times = [0.012_345, 9.876_543] * 50_000
    console = Console(file=io.StringIO(), width=80)
    report(result(times=times), console)
    assert "…" not in console.file.getvalue()
    assert "9,877" in console.file.getvalue()


def test_paced_load_shows_what_its_pace_hid():
    late, paced = Histogram(), Histogram()
    for seconds in [0.001] * 99 + [1.0]:
        late.record_seconds(seconds)
        paced.record_corrected_seconds(seconds, 0.01)
    text = printed(result(intended=[["nginx", "GET", "/", paced.to_json()]]))
    assert float(cells(text, "GET /, as due")[4]) == pytest.approx(800, rel=0.02)  # p90
    assert "coordinated omission" in text
    assert "coordinated omission" not in printed(result())


def test_document_says_the_same_and_has_the_histograms():
    measured = result(times=[0.0011] * 20_000, series=[])
    document = json.loads(json.dumps(described(Repeat(0, "nginx", None, measured, 0))))
    (row,) = [row for row in document["rows"] if row["name"] == "GET /"]
    assert (row["count"], row["mean_ms"]) == (20_000, pytest.approx(1.1))
    assert row["quantiles_ms"] == pytest.approx({"p50": 1.1, "p90": 1.1, "p99": 1.1, "p99.9": 1.1, "max": 1.1})
    assert Histogram.from_json(row["histogram"]).count == 20_000
    assert document["errors"] == [["connect_failures", "TimeoutError", 2]]


def test_json_is_all_that_stdout_gets(monkeypatch, capsys):
    require_tool("nginx")
    with nginx.start() as peer:
        monkeypatch.setenv("LAB_NGINX_PORT", str(peer.port))
        assert run("nginx", 1, 10, 1, "keep-alive", ["--pace", "0.02"], as_json=True) in RAN
    (repeat,) = json.loads(capsys.readouterr().out)["repeats"]
    counts = {row["name"]: row["count"] for row in repeat["rows"]}
    assert 5 <= counts["GET /"] <= counts["GET /, as due"]


def test_load_is_marked_in_grafana(monkeypatch):
    require_tool("nginx")
    marks = []
    monkeypatch.setattr(annotate, "mark", lambda *given: marks.append(given))
    with nginx.start() as peer:
        monkeypatch.setenv("LAB_NGINX_PORT", str(peer.port))
        run("nginx", 1, 10, 1, "keep-alive", [])
    ((text, tags, begun, ended),) = marks
    assert text.startswith("load on nginx: ")
    assert "lab load nginx" in text
    assert tags[:2] == ["load", "nginx"]
    assert 0.5 < ended - begun < 60


def test_load_that_did_nothing_has_shown_nothing():
    idle, busy = (result(times=times, connect_failures=[]) for times in ((), (0.002,)))
    assert exit_code([Repeat(1, "nginx", None, idle, GOOD)]) == FAILURES
    assert exit_code([Repeat(1, "nginx", None, busy, GOOD)]) == GOOD
    out = io.StringIO()
    report(idle, Console(file=out, width=200))
    assert "has shown nothing" in out.getvalue()
