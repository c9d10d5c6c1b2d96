"""A run of a made-up experiment that shows everything a report can draw."""

import json
import random

import pytest

from lab.harness.checks import between
from lab.harness.experiment import ArmResult, Check, Control, Experiment
from lab.harness.observation import Arm, Observation, Quantity
from lab.harness.run import describe
from lab.harness.verdict import judge
from lab.report.evidence import read_stored, store
from lab.results import RESULT, runs
from loadtests.histogram import Histogram

WHERE = {"kernel": "6.18", "cpus": 2, "python": "3.11.7", "gil": True, "commit": "abc"}
EXPERIMENT = Experiment(
    name="made-up",
    chapter="models",
    question="Which queue is <b>shorter</b>?",
    predict="Guess & write it down.",
    arms=(Arm("shared queue", "nginx", {"workers": 2}), Arm("<sharded>", "reuseport", {"workers": 2})),
    trial=None,
    checks=(
        Check(
            "short",
            "the queue is short",
            "a paper",
            "at most 2 ms",
            between("shared queue", "mean", most=2),
            timed=True,
        ),
        Check(
            "long",
            "the queue | is long",
            "a manual",
            "at least 90 ms",
            between("<sharded>", "mean", least=90),
            timed=True,
        ),
    ),
    controls=(Control("swapped", "they change places", (Arm("<sharded>"),), ("short", "long")),),
    explanation="A **queue** of `accept()`.\n\n<script>alert(1)</script>\n",
)


def latencies_of(seed):
    times, chance = Histogram(), random.Random(seed)
    for _ in range(2000):
        times.record_seconds(chance.lognormvariate(-7, 1))
    return times.to_json()


def observation(arm, trial):
    return Observation(
        metrics={"mean": Quantity(1.5 + arm + trial / 10, "ms"), "drops": Quantity(trial)},
        shares={"requests by worker": {"0": 100, "1": 200 * arm + trial}},
        series={"accept queue 0": [(at / 10, (at + trial) % 7) for at in range(30)]},
        latencies={"all": latencies_of(arm * 10 + trial)},
        notes=["0.000 SYN <&>"] if arm == 0 else [],
    )


@pytest.fixture
def experiment():
    return EXPERIMENT


@pytest.fixture
def document():
    results = {
        arm.name: ArmResult(arm, [observation(number, trial) for trial in range(3)])
        for number, arm in enumerate(EXPERIMENT.arms)
    }
    document = describe(EXPERIMENT, results, judge(EXPERIMENT, results, WHERE), WHERE, "full", 61.2)
    document |= {"begun": "2026-11-23T22:00:00+00:00", "command": "lab run made-up", "control": None}
    return json.loads(json.dumps(document))


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


@pytest.fixture
def keep(results):
    """Put a document into a folder as `lab run` does; without one the run was interrupted."""

    def keep(name, document=None):
        folder = results / name
        folder.mkdir(parents=True)
        if document is not None:
            (folder / RESULT).write_text(json.dumps(document), encoding="utf-8")
        return folder

    return keep


@pytest.fixture
def stored(experiment, keep, results, tmp_path):
    """Keep runs, the oldest first, and store the last of them: what was stored."""

    def stored(*documents):
        for hour, each in enumerate(documents):
            keep(f"20261123T{hour:02}0000.000-made-up", each)
        newest_first = runs(results)[::-1]
        store(experiment, newest_first[0], newest_first, tmp_path)
        return read_stored(experiment, tmp_path)

    return stored
