"""`lab run` as its user meets it."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.experiments import all_experiments
from lab.harness import run as running
from lab.harness import show
from lab.sandbox.outside import SandboxError

RUN = [sys.executable, "-m", "lab", "run"]


def run(*words):
    return subprocess.run([*RUN, *words], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no-such"], "no experiment is called 'no-such'; `lab list` shows them"),
        ([], "give the names of experiments, or --all"),
        (["--all", "busiest-worker"], "give the names of experiments, or --all"),
        (["busiest-worker", "--control", "x"], "busiest-worker has no control 'x'; there are wrong-policy"),
        (["--all", "--control", "x"], "--control belongs to one experiment"),
        (["busiest-worker", "--controls", "--control", "wrong-policy"], "name just that one, or give --controls"),
    ],
)
def test_wrong_words_are_one_line(words, said):
    done = run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_list_shows_every_experiment():
    done = subprocess.run([sys.executable, "-m", "lab", "list", "--json"], capture_output=True, text=True, timeout=60)
    assert [row["name"] for row in json.loads(done.stdout)] == [experiment.name for experiment in all_experiments()]


def test_interrupt_is_one_line_and_leaves_nothing():
    lab = subprocess.Popen([*RUN, "busiest-worker", "--progress", "--quick"], stderr=subprocess.PIPE, text=True)
    assert json.loads(lab.stderr.readline())["doing"]
    time.sleep(0.5)  # in the midst of a trial
    lab.send_signal(signal.SIGINT)
    _, errors = lab.communicate(timeout=20)
    assert lab.returncode == 130
    assert errors.splitlines()[-1] == "lab: interrupted; nothing of the run is left but its folder"
    assert "Traceback" not in errors


def document(experiment, verdict, holds=()):
    """Of a run whose checks came to `holds`."""
    checks = [
        {"name": check.name, "claim": "", "expected": "", "measured": "", "holds": each}
        for check, each in zip(experiment.checks, holds, strict=False)
    ]
    environment = {"kernel": "6", "cpus": 2, "python": "3", "gil": True, "commit": "c"}
    found = {
        "experiment": experiment.name,
        "question": "?",
        "verdict": verdict,
        "inconclusive": [],
        "advice": "",
        "arms": [],
    }
    return found | {"checks": checks, "environment": environment, "seconds": 1.0}


@pytest.fixture
def outcome(monkeypatch):
    """Run with each experiment's outcome given: a verdict, or an error."""

    def run(*outcomes):
        rest = iter(outcomes)

        def give(experiment, *_):
            result = next(rest)
            if isinstance(result, BaseException):
                raise result
            return running.Run(Path("folder"), document(experiment, result))

        monkeypatch.setattr(running, "run", give)
        return show.run([all_experiments()[0]] * len(outcomes), show.Form("quick"))

    return run


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        (["holds"], 0),
        (["holds", "inconclusive"], 3),
        (["inconclusive", running.RunError("broke"), "holds"], 2),
        ([running.RunError("broke"), "fails", "inconclusive"], 1),
        ([SandboxError("gone", "come back")], 2),
    ],
)
def test_exit_code_is_the_worst(outcome, outcomes, code):
    assert outcome(*outcomes) == code


def test_all_ends_in_one_table(outcome, capsys):
    outcome("holds", "fails")
    last = capsys.readouterr().out.split("experiment", 1)[-1]
    assert "holds" in last
    assert "fails" in last


def test_pages_are_written_of_runs_that_came_to_an_end(monkeypatch):
    ended = iter([running.RunError("broke"), running.Run(Path("kept"), document(all_experiments()[0], "holds"))])

    def give(*_):
        found = next(ended)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(running, "run", give)
    written = []
    show.run([all_experiments()[0]] * 2, show.Form("quick", pages=written.append))
    assert written == [Path("kept")]


def test_report_and_what_to_do_on_a_busy_machine_are_told(monkeypatch, capsys):
    found = document(all_experiments()[0], "inconclusive") | {"advice": "end what else runs"}
    monkeypatch.setattr(running, "run", lambda *_: running.Run(Path("folder"), found))
    assert show.run(all_experiments()[:1], show.Form("quick")) == 3
    said = capsys.readouterr().out.splitlines()
    assert "end what else runs" in said
    assert said[-1] == "report: folder/report.html"


def test_what_broke_off_has_its_line_with_the_reason(outcome, capsys):
    outcome("holds", running.RunError("no such port"), ZeroDivisionError("a slip"))
    last = capsys.readouterr().out.split("experiment", 1)[-1]
    assert last.count("broke off") == 2
    assert "no such port" in last
    assert "a slip" in last


def test_interrupted_runs_end_in_the_table_of_those_before(outcome, capsys):
    assert outcome("fails", KeyboardInterrupt(), "holds") == 130
    said = capsys.readouterr()
    assert said.out.split("experiment", 1)[-1].count("fails") == 1
    assert said.err == "lab: interrupted; nothing of the run is left but its folder\n"


@pytest.mark.parametrize(
    ("holds", "code", "word"),
    [
        (False, 0, "fails, as it must"),
        (True, 1, "holds, which it must not"),
        (None, 3, "inconclusive"),
    ],
)
def test_controls_are_good_where_all_that_they_name_fails(monkeypatch, capsys, holds, code, word):
    experiment = next(each for each in all_experiments() if len(each.controls) > 1)
    first, *others = experiment.controls

    def give(experiment, effort, progress, control):
        # What a control does not name may come to anything.
        named = False if control in others else holds
        came_to = [named if check.name in control.fails else True for check in experiment.checks]
        return running.Run(Path("folder"), document(experiment, "fails", came_to))

    monkeypatch.setattr(running, "run", give)
    assert show.run_controls([experiment], show.Form("quick")) == code
    table = capsys.readouterr().out.rsplit("claims", 1)[-1]
    assert first.name in table
    assert table.count("fails, as it must") == len(others) + (code == 0)
    assert word in table


def test_no_sandbox_here_is_told_once(monkeypatch, capsys):
    def refuse():
        raise SandboxError("forbidden", "allow them")

    monkeypatch.setattr(show, "working_form", refuse)
    monkeypatch.setattr(show.status, "place", lambda: "")
    assert show.run(all_experiments(), show.Form("quick")) == 2
    assert capsys.readouterr().err == "lab: forbidden: allow them\n"


def test_no_sandbox_here_but_containers_runs_there(monkeypatch):
    def refuse():
        raise SandboxError("forbidden", "allow them")

    said = []
    monkeypatch.setattr(show, "working_form", refuse)
    monkeypatch.setattr(show.status, "place", lambda: "containers")
    monkeypatch.setattr(show.lab_container, "run", lambda *words: said.append(words) or 3)
    experiment = all_experiments()[0]
    form = show.Form("quick", as_json=True)
    assert show.run([experiment], form, experiment.controls[0]) == 3
    assert show.run_controls([experiment], form) == 3
    assert said == [
        ("run", experiment.name, "--control", experiment.controls[0].name, "--quick", "--json"),
        ("run", experiment.name, "--controls", "--quick", "--json"),
    ]
