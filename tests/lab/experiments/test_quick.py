"""Every experiment in its short form: the claim holds, and without its cause it fails."""

import json
import subprocess
import sys

import pytest

from lab.experiments import all_experiments

pytestmark = [pytest.mark.quiet, pytest.mark.timeout(150)]

LONGEST_SECONDS = 20
HOLDS, INCONCLUSIVE = 0, 3


def run(*words):
    command = [sys.executable, "-m", "lab", "run", *words, "--quick", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("experiment", all_experiments(), ids=lambda experiment: experiment.name)
def test_claim_holds(experiment):
    code, document = run(experiment.name)
    failed = [(check["name"], check["measured"]) for check in document["checks"] if check["holds"] is False]
    assert not failed
    if document["environment"]["cpus"] >= cores_needed(experiment):
        assert code == HOLDS, document["inconclusive"]
    else:
        assert code == INCONCLUSIVE
        assert all(" cores, and there are " in reason for reason in document["inconclusive"])
    assert document["seconds"] <= LONGEST_SECONDS


CONTROLS = [(experiment, control) for experiment in all_experiments() for control in experiment.controls]


@pytest.mark.parametrize(("experiment", "control"), CONTROLS, ids=[f"{e.name}-{c.name}" for e, c in CONTROLS])
def test_claim_fails_without_its_cause(experiment, control):
    _, document = run(experiment.name, "--control", control.name)
    judged = {check["name"]: check["holds"] for check in document["checks"]}
    decided = [name for name in control.fails if not too_few_cores(experiment, name, document)]
    assert {name: judged[name] for name in decided} == dict.fromkeys(decided, False)


def cores_needed(experiment):
    return max(experiment.cores, *(check.cores for check in experiment.checks))


def too_few_cores(experiment, name, document):
    """Whether this machine cannot tell either way."""
    (check,) = (check for check in experiment.checks if check.name == name)
    return document["environment"]["cpus"] < max(check.cores, experiment.cores)
