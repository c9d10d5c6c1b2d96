"""Files of docs/experiments/results, of an experiment's runs: the evidence that its page shows.

A stored result is the document of a full run without its trials, and with it

    runs        the full runs in a row up to this one, at the same commit: whether it comes out so every time
    controls    the last run of each control at that commit or later: whether the claims can fail

Only full runs that took nothing away are stored, and only of files that are in a commit.
"""

from __future__ import annotations

import json
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any

from lab.harness.run import without_trials
from lab.measure.environment import CHANGED
from lab.settings import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from lab.harness.experiment import Check, Control, Experiment
    from lab.results import StoredRun

STORED = CHECKOUT / "docs" / "experiments" / "results"
MOST_RUNS = 3
FROM_THE_DECLARATION = ("question", "predict", "explanation")
"""Fields that the page takes from there."""


def is_full(run: StoredRun) -> bool:
    """Return whether a run came to a result in full form, and had its cause."""
    document = run.document or {}
    return document.get("effort") == "full" and not document.get("control")


def store(experiment: Experiment, run: StoredRun, runs: Sequence[StoredRun], folder: Path = STORED) -> Path:
    """Keep a run's result beside the docs: where it is. `runs` are all that there are, the newest first.

    Raises ValueError for a quick run, a control's, or one of files that are in no commit.
    """
    if run.document is None or not is_full(run):
        raise ValueError(f"{run.name} is no full run with a result: `lab run {experiment.name}` makes one")
    if run.document["environment"]["commit"].endswith(CHANGED):
        raise ValueError(f"{run.name} was made with files that are in no commit: commit, and run it again")
    document = {name: value for name, value in run.document.items() if name not in FROM_THE_DECLARATION} | {
        "arms": without_trials(run.document["arms"]),
        "runs": [_of_a_run(each) for each in _in_a_row(run, runs)],
        "controls": dict(_controls(experiment, run.document, runs)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{experiment.name}.json"
    file.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return file


def read_stored(experiment: Experiment, folder: Path = STORED) -> dict[str, Any] | None:
    """The stored result of an experiment; None where there is none."""
    try:
        document: dict[str, Any] = json.loads((folder / f"{experiment.name}.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return document


def same(check: Check, found: dict[str, Any]) -> bool:
    """Return whether what was stored of a check is of what its declaration claims and expects now."""
    return (check.claim, check.expected) == (found["claim"], found["expected"])


def _in_a_row(run: StoredRun, runs: Iterable[StoredRun]) -> list[dict[str, Any]]:
    """The documents of a run and of the full ones before it at its commit, the oldest first.

    None is left out: where a run came to no result, the row ends.
    """
    upto = [each for each in runs if each.name <= run.name and each.experiment == run.experiment]
    ended = takewhile(lambda each: each.document is not None, upto)
    full = [each.document for each in ended if each.document and is_full(each)]
    return list(islice(takewhile(lambda document: _commit(document) == _commit(full[0]), full), MOST_RUNS))[::-1]


def _controls(
    experiment: Experiment, result: dict[str, Any], runs: Sequence[StoredRun]
) -> Iterator[tuple[str, dict[str, Any]]]:
    documents = [run.document for run in runs if run.document and run.experiment == experiment.name]
    for control in experiment.controls:
        # In either form: what must fail fails in seconds, too.
        newest = next((document for document in documents if document["control"] == control.name), None)
        if newest and _is_of_its_files(newest, result):
            yield control.name, _of_a_control(control, newest)


def _is_of_its_files(document: dict[str, Any], result: dict[str, Any]) -> bool:
    """Return whether a run was made at the result's commit, or after it at another."""
    commit = _commit(document)
    return commit == _commit(result) or (document["begun"] > result["begun"] and not commit.endswith(CHANGED))


def _of_a_run(document: dict[str, Any]) -> dict[str, Any]:
    return {name: document[name] for name in ("begun", "verdict", "seconds")}


def _of_a_control(control: Control, document: dict[str, Any]) -> dict[str, Any]:
    replaced = {arm.name for arm in control.arms}
    return {
        "begun": document["begun"],
        "effort": document["effort"],
        "commit": _commit(document),
        "cpus": document["environment"]["cpus"],
        "arms": {arm["name"]: arm["parameters"] for arm in document["arms"] if arm["name"] in replaced},
        "checks": [
            {name: check[name] for name in ("name", "measured", "holds")}
            for check in document["checks"]
            if check["name"] in control.fails
        ],
    }


def _commit(document: dict[str, Any]) -> str:
    commit: str = document["environment"]["commit"]
    return commit
