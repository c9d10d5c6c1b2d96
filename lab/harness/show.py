"""Runs experiments one after another and shows how they go: a bar and tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from lab import state_folder
from lab.harness import run as running
from lab.harness import tables
from lab.harness.tables import Ended
from lab.harness.verdict import FAILS, HOLDS, INCONCLUSIVE
from lab.sandbox.outside import SandboxError, working_form
from lab.stack import containers, lab_container, status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from lab.harness.experiment import Control, Experiment

    Pages = Callable[[Path], None]
    """Called with the folder of a run, to write its page and the index."""
    Judge = Callable[[dict[str, Any], Control | None], tuple[str, str, int]]
    """From a run's document to a word, how many of its claims that is about, and the exit code."""

EXIT_CODES = {HOLDS: 0, FAILS: 1, INCONCLUSIVE: 3}
FAILED_AS_MEANT, NOT_FAILED = "fails, as it must", "holds, which it must not"
CONTROL_EXIT_CODES = {FAILED_AS_MEANT: 0, NOT_FAILED: 1, INCONCLUSIVE: 3}
BROKE_OFF = 2
INTERRUPTED = 130
"""As a shell says it: 128 and the signal's number."""


def _no_pages(_folder: Path) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Form:
    """Options of runs: how they are made, shown, and who writes their pages."""

    effort: str = "full"
    as_json: bool = False
    progress: bool = False
    pages: Pages = _no_pages

    def words(self) -> list[str]:
        """The same for the command line."""
        flags = {"--quick": self.effort == "quick", "--json": self.as_json, "--progress": self.progress}
        return [flag for flag, wanted in flags.items() if wanted]


def run(experiments: Sequence[Experiment], form: Form, control: Control | None = None) -> int:
    """Run them all; the exit code: of the worst, where a claim that fails outranks one that broke off or is open."""
    words = [*(experiment.name for experiment in experiments), *(["--control", control.name] if control else [])]
    return _run_in_turn([(experiment, control) for experiment in experiments], form, _by_verdict, words)


def run_controls(experiments: Sequence[Experiment], form: Form) -> int:
    """Run every control of each; the exit code is 0 where all that they name fails."""
    planned = [(experiment, control) for experiment in experiments for control in experiment.controls]
    words = [*(experiment.name for experiment in experiments), "--controls"]
    return _run_in_turn(planned, form, _by_what_must_fail, words)


def _run_in_turn(
    planned: Sequence[tuple[Experiment, Control | None]], form: Form, judge: Judge, words: list[str]
) -> int:
    """Run all that is planned: an error in one does not end the rest; only where there can be no sandbox at all
    nothing is tried.
    """
    try:
        working_form()
    except SandboxError as error:
        if status.place() == containers.PLACE:
            return lab_container.run("run", *words, *form.words())
        typer.echo(f"lab: {error}", err=True)
        return BROKE_OFF
    ended: list[Ended] = []
    try:
        for experiment, control in planned:
            ended.append(_run_and_show(experiment, control, form, judge))
        codes = [each.code for each in ended]
    except KeyboardInterrupt:
        typer.echo("lab: interrupted; nothing of the run is left but its folder", err=True)
        codes = [INTERRUPTED]
    if len(planned) > 1 and ended and not form.as_json:
        Console().print(tables.verdicts(ended))
    return next((code for code in (INTERRUPTED, 1, BROKE_OFF, 3) if code in codes), 0)


def _run_and_show(experiment: Experiment, control: Control | None, form: Form, judge: Judge) -> Ended:
    name = f"{experiment.name} --control {control.name}" if control else experiment.name
    try:
        found = _run_one(experiment, control, form)
        form.pages(found.folder)
    except (SandboxError, running.RunError) as error:
        typer.echo(f"lab: {error}", err=True)
        return Ended(name, "broke off", str(error), None, BROKE_OFF)
    except OSError as error:
        if isinstance(error, BrokenPipeError) or state_folder.explain(error):
            raise  # the next would find no reader, or no disk, either
        return _broken_off(name, experiment, error)
    except Exception as error:  # noqa: BLE001 - a slip in one experiment's file is no verdict: the others have their turn
        return _broken_off(name, experiment, error)
    if form.as_json:
        typer.echo(running.in_one_line(found.document))
    else:
        show(found)
    word, detail, code = judge(found.document, control)
    return Ended(name, word, detail, found.document["seconds"], code)


def _broken_off(name: str, experiment: Experiment, error: Exception) -> Ended:
    traceback.print_exc()
    typer.echo(f"lab: {experiment.name} broke off; mend what the traceback shows, and run it again", err=True)
    return Ended(name, "broke off", repr(error), None, BROKE_OFF)


def _by_verdict(document: dict[str, Any], _: Control | None) -> tuple[str, str, int]:
    held = sum(check["holds"] is True for check in document["checks"])
    return document["verdict"], f"{held} of {len(document['checks'])} hold", EXIT_CODES[document["verdict"]]


def _by_what_must_fail(document: dict[str, Any], control: Control | None) -> tuple[str, str, int]:
    named = control.fails if control else ()
    holds = [check["holds"] for check in document["checks"] if check["name"] in named]
    word = NOT_FAILED if True in holds else INCONCLUSIVE if None in holds else FAILED_AS_MEANT
    return word, f"{holds.count(False)} of {len(holds)} fail", CONTROL_EXIT_CODES[word]


def _run_one(experiment: Experiment, control: Control | None, form: Form) -> running.Run:
    if form.progress:
        return running.run(experiment, form.effort, _tell, control)
    if form.as_json or not sys.stderr.isatty():
        return running.run(experiment, form.effort, _say_nothing, control)
    columns = (TextColumn("{task.fields[name]}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", name=experiment.name, total=1.0)
        return running.run(
            experiment, form.effort, lambda share, doing: bar.update(task, completed=share, description=doing), control
        )


def _say_nothing(_share: float, _doing: str) -> None:
    pass


def _tell(share: float, doing: str) -> None:
    print(json.dumps({"progress": round(share, 4), "doing": doing}), file=sys.stderr, flush=True)


def show(found: running.Run) -> None:
    """The verdict of one run, for a person."""
    console, document = Console(), found.document
    console.print()
    console.print(Text(document["question"], style="bold"))
    console.print(tables.checks(document))
    verdict = Text(f"{document['experiment']}: ").append(
        document["verdict"], style=tables.VERDICT_STYLES[document["verdict"]]
    )
    console.print(verdict)
    for reason in document["inconclusive"]:
        console.print(f"  {reason}", highlight=False)
    if document["advice"]:
        console.print(document["advice"], highlight=False, soft_wrap=True)
    environment: dict[str, Any] = document["environment"]
    console.print(
        f"kernel {environment['kernel']}, {environment['cpus']} cores, Python {environment['python']}"
        f"{'' if environment['gil'] else ' without GIL'}, {document['seconds']:.0f} s",
        style="dim",
        highlight=False,
    )
    console.print(f"report: {found.report}", highlight=False, soft_wrap=True)
