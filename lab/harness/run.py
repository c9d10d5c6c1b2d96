"""`lab run`: starts the sandbox, follows the trials, judges them, and keeps the result.

A run's folder, `.lab/results/<time>-<name>`, has `result.json` (the document of docs/design.md, "Command line", and all
observations), `log` (what the programs inside said) and, once `lab.report` wrote it, `report.html`. The result is
written last and at once: a folder without it is a run that was interrupted.
"""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lab.harness.announce import annotate, announced
from lab.harness.checks import SPREADS_APART
from lab.harness.controls import as_run
from lab.harness.experiment import ArmResult
from lab.harness.observation import Observation, Quantity
from lab.harness.verdict import Verdict, judge
from lab.measure import environment
from lab.results import REPORT, RESULTS, new_folder, prune, write
from lab.sandbox import outside

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lab.harness.experiment import Check, Control, Experiment, Results

    Progress = Callable[[float, str], None]
    """Called with the share that is done, and what is being done."""

LOG = "log"
LONGEST_SECONDS = {"quick": 90.0, "full": 480.0}
"""Two or three times what an experiment may take, with the trials that are made again: beyond it something hangs, and
is ended.
"""
LAST_WORDS_BYTES = 2000


class RunError(Exception):
    """The experiment came to no result; the text says why and where to look."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run that came to its end."""

    folder: Path
    document: dict[str, Any]

    @property
    def report(self) -> Path:
        """Its page."""
        return self.folder / REPORT


def run(experiment: Experiment, effort: str, progress: Progress, control: Control | None = None) -> Run:
    """Make all trials in a sandbox and judge them. `effort` is quick or full. Raises RunError, SandboxError."""
    declared = as_run(experiment, control, quick=effort == "quick")
    missing = [program for program in declared.programs if not shutil.which(program)]
    if missing:
        raise RunError(f"{experiment.name} needs {missing[0]}: apt-get install {missing[0]}, or {outside.CONTAINER}")
    begun = datetime.now(UTC)
    folder = new_folder(f"{experiment.name}-{control.name}" if control else experiment.name, begun, RESULTS)
    words = [experiment.name, effort, *([control.name] if control else [])]
    started = time.monotonic()
    command = [sys.executable, "-m", "lab.experiments", *words]
    with announced(experiment.name) as announcement:

        def tell(share: float, doing: str) -> None:
            announcement.progress(share)
            progress(share, doing)

        results = _follow(declared, command, folder, effort, tell)
        where = environment.describe()
        verdict = _judge(declared, results, where)
        document = describe(declared, results, verdict, where, effort, time.monotonic() - started)
        announcement.progress(1)
        announcement.verdict(document["verdict"])
    document |= {
        "begun": begun.isoformat(),
        "command": command_line(words),
        "control": control and control.name,
    }
    write(folder, document)
    annotate(document, begun.timestamp())
    prune(results=RESULTS)
    return Run(folder, document)


def command_line(words: list[str]) -> str:
    """Return the command that repeats a run, from its words: name, effort and, perhaps, control."""
    name, effort, *control = words
    return " ".join(
        ["lab run", name, *(["--quick"] if effort == "quick" else []), *(f"--control {name}" for name in control)]
    )


def _follow(experiment: Experiment, command: list[str], folder: Path, effort: str, progress: Progress) -> Results:
    """Read what the sandbox says, until its end."""
    results = {arm.name: ArmResult(arm, []) for arm in experiment.arms_in(quick=effort == "quick")}
    with outside.launched(command, folder / LOG) as process:
        watchdog = threading.Timer(LONGEST_SECONDS[effort], process.kill)
        watchdog.start()
        try:
            for line in process.stdout or ():
                said = _read(line, experiment, folder)
                if "error" in said:
                    raise RunError(f"{experiment.name}: {said['error']} (log: {folder / LOG})")
                if "observation" in said:
                    results[said["arm"]].add(said["repetition"], read_observation(said["observation"]))
                else:
                    progress(said["progress"], said["doing"])
        finally:
            hung = not watchdog.is_alive()
            watchdog.cancel()
        code = process.wait()
    if hung:
        raise RunError(
            f"{experiment.name} did not end within {LONGEST_SECONDS[effort]:.0f} s (log: {folder / LOG}); "
            "run it again when this machine is less busy"
        )
    if code:
        last_words = (folder / LOG).read_bytes()[-LAST_WORDS_BYTES:].decode(errors="replace").strip()
        reason = (last_words.splitlines() or ["it said nothing"])[-1]
        raise RunError(
            f"{experiment.name} broke off with {code}, {reason}; mend what {folder / LOG} shows, and run it again"
        )
    return results


def _judge(experiment: Experiment, results: Results, where: environment.Environment) -> Verdict:
    try:
        return judge(experiment, results, where)
    except KeyError as error:
        raise RunError(
            f"{experiment.name}: a check asks for what no trial measured, {error}: mend its file in lab/experiments"
        ) from error


def _read(line: str, experiment: Experiment, folder: Path) -> dict[str, Any]:
    try:
        said: dict[str, Any] = json.loads(line)
    except json.JSONDecodeError:
        raise RunError(
            f"{experiment.name} printed {line.strip()!r}, which is no JSON (log: {folder / LOG}): standard output is "
            "for results, so have its trial write to sys.stderr"
        ) from None
    return said


def read_observation(fields: dict[str, Any]) -> Observation:
    """An observation from its JSON."""
    return Observation(**{**fields, "metrics": {name: Quantity(*pair) for name, pair in fields["metrics"].items()}})


def describe(
    experiment: Experiment,
    results: Results,
    verdict: Verdict,
    where: environment.Environment,
    effort: str,
    seconds: float,
) -> dict[str, Any]:
    """The document of one run."""
    quick = effort == "quick"
    arms = [
        {
            "name": name,
            "parameters": result.arm.described(),
            "metrics": result.summaries(),
            "made_again": len(result.superseded),
            "trials": [asdict(observation) for observation in result.observations],
            "superseded": [asdict(observation) for observation in result.superseded],
        }
        for name, result in results.items()
    ]
    checks = [
        {
            "name": outcome.check.name,
            "claim": outcome.check.claim,
            "source": outcome.check.source,
            "expected": expected_of(outcome.check, results),
            "timed": outcome.check.timed,
            "measured": outcome.measured,
            "holds": outcome.holds,
            "corrects": outcome.check.corrects and asdict(outcome.check.corrects),
        }
        for outcome in verdict.outcomes
    ]
    return {
        "experiment": experiment.name,
        "chapter": experiment.chapter,
        "question": experiment.question,
        "effort": effort,
        "predict": experiment.predict_in(quick=quick),
        "explanation": experiment.explanation_in(quick=quick),
        "arms": arms,
        "checks": checks,
        "verdict": verdict.word,
        "inconclusive": verdict.reasons,
        "advice": verdict.advice,
        "environment": where,
        "seconds": round(seconds, 2),
    }


def expected_of(check: Check, results: Results) -> str:
    """Return what the check expects of these results: one trial has no spread of which something could be said."""
    trials = max(len(result.observations) for result in results.values())
    return check.expected if trials > 1 else check.expected.replace(SPREADS_APART, "")


def in_one_line(document: dict[str, Any]) -> str:
    """The document as `lab run --json` prints it: without the single trials, which result.json keeps."""
    return json.dumps({**document, "arms": without_trials(document["arms"])}, ensure_ascii=False)


def without_trials(arms: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The arms of a document, with their summaries alone."""
    return [{key: value for key, value in arm.items() if key not in {"trials", "superseded"}} for arm in arms]
