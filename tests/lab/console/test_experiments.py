"""The slot for experiments: a run is a command of whose output the page understands what the contract says."""

from __future__ import annotations

import asyncio
import json
import sys

import httpx
import pytest
from fastapi import FastAPI
from support.servers import wait_until

from lab.console import experiments
from lab.console.experiments import BusyError, Trial
from lab.console.loads import Load, LoadError, Loads

RESULT = {"experiment": "herd", "verdict": "holds", "checks": [], "arms": []}
RUNS = """
import json, sys
assert sys.argv[1:] == ["run", "herd", "--quick", "--json", "--progress"], sys.argv
print(json.dumps({"progress": 0.5, "doing": "arm two"}), file=sys.stderr, flush=True)
print("a line of somebody else's", file=sys.stderr, flush=True)
"""
ENDS = f"{RUNS}print({json.dumps(RESULT)!r})"
HANGS = f"{RUNS}import time; time.sleep(60)"


@pytest.fixture
def trial():
    made = []

    def with_program(code):
        made.append(Trial([sys.executable, "-c", code]))
        return made[-1]

    yield with_program
    for one in made:
        one.close()


def test_run_ends_with_its_verdict(trial):
    own = trial(ENDS)
    own.start("herd")
    wait_until(lambda: own.state.ended)
    assert own.state.documents == [RESULT]
    assert (own.state.progress, own.state.doing, own.state.problem) == (0.5, "arm two", "")
    assert not own.runs()


def test_progress_is_known_while_it_runs_and_a_second_run_has_to_wait(trial):
    own = trial(HANGS)
    own.start("herd")
    wait_until(lambda: own.state.doing == "arm two")
    with pytest.raises(BusyError, match="herd"):
        own.start("herd")
    own.stop()
    wait_until(lambda: own.state.ended)
    assert own.state.problem == "stopped"
    own.start("herd")
    assert own.runs()


def test_experiment_does_not_run_beside_a_load_nor_a_load_beside_an_experiment():
    load, program = Load("nginx"), (sys.executable, "-c", "import time; time.sleep(60)")
    loads = Loads(program, experiment=lambda: trial.running())
    trial = Trial(program, under_load=loads.under_load)
    try:
        loads.start(load)
        with pytest.raises(BusyError, match="a load on nginx would disturb"):
            trial.start("herd")
        loads.stop("nginx")
        trial.start("herd")
        with pytest.raises(LoadError, match="the experiment herd is running"):
            loads.start(load)
        trial.stop()
        wait_until(lambda: trial.state.ended)
        loads.start(load)
    finally:
        loads.close()
        trial.close()


def test_run_that_fails_gives_its_last_line(trial):
    own = trial("import sys; print('lab: no such command', file=sys.stderr); sys.exit(2)")
    own.start("herd")
    wait_until(lambda: own.state.ended)
    assert own.state.problem == "lab: no such command"


@pytest.fixture
def results(tmp_path):
    results = tmp_path / "results"
    for name, experiment in (("run-1", "herd"), ("run-2", "other")):
        (results / name).mkdir(parents=True)
        (results / name / "result.json").write_text(json.dumps({"experiment": experiment}))
        (results / name / "report.html").write_text(f"<h1>{experiment}</h1>")
    (results / "index.html").write_text("<h1>all</h1>")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "report.html").write_text("secret")
    return results


def test_latest_report_on_an_experiment_is_found(results):
    assert experiments.latest_report("herd", results) == "/results/run-1/report.html"
    assert experiments.latest_report("third", results) == ""
    (results / "run-3").mkdir()
    (results / "run-3" / "result.json").write_text(json.dumps({"experiment": "herd"}))
    assert experiments.latest_report("herd", results) == "/results/run-1/report.html"  # the newer one has no page


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/results/run-1/report.html", 200),
        ("/results/run-3/report.html", 404),
        ("/results/index.html", 200),
        ("/results/run-1/result.json", 404),
        ("/results/%2e%2e/report.html", 404),
        ("/results/..%2fsecret/report.html", 404),
    ],
)
def test_reports_are_served_and_no_other_file(results, path, status):
    app = FastAPI()
    experiments.add_reports(app, results)

    async def ask():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            return (await client.get(path)).status_code

    assert asyncio.run(ask()) == status
