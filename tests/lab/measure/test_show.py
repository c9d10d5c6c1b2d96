"""`lab run` as its user meets it."""

import json
import signal
import subprocess
import sys
import time

import pytest

from lab.experiments import all_experiments
from lab.measure import running, show
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


@pytest.fixture
def outcome(monkeypatch):
    """Run with each experiment's outcome given: a verdict, or an error."""

    def run(*outcomes):
        rest = iter(outcomes)

        def give(experiment, *_):
            result = next(rest)
            if isinstance(result, Exception):
                raise result
            environment = {"kernel": "6", "cpus": 2, "python": "3", "gil": True, "commit": "c"}
            document = {"experiment": experiment.name, "verdict": result, "arms": [], "checks": [], "question": "?"}
            return running.Run("folder", {**document, "inconclusive": [], "environment": environment, "seconds": 1.0})

        monkeypatch.setattr(running, "run", give)
        experiments = [all_experiments()[0]] * len(outcomes)
        return show.run(experiments, "quick", None, as_json=False, progress=False)

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


def test_no_sandbox_here_is_told_once(monkeypatch, capsys):
    def refuse():
        raise SandboxError("forbidden", "allow them")

    monkeypatch.setattr(show, "working_form", refuse)
    monkeypatch.setattr(show.status, "place", lambda: "")
    assert show.run(all_experiments(), "quick", None, as_json=False, progress=False) == 2
    assert capsys.readouterr().err == "lab: forbidden: allow them\n"


def test_no_sandbox_here_but_containers_runs_there(monkeypatch):
    def refuse():
        raise SandboxError("forbidden", "allow them")

    said = []
    monkeypatch.setattr(show, "working_form", refuse)
    monkeypatch.setattr(show.status, "place", lambda: "containers")
    monkeypatch.setattr(show.beside, "run", lambda *words: said.append(words) or 3)
    experiment = all_experiments()[0]
    assert show.run([experiment], "quick", experiment.controls[0], as_json=True, progress=False) == 3
    assert said == [("run", experiment.name, "--quick", "--json", "--control", experiment.controls[0].name)]
