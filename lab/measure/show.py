"""Runs experiments one after another and shows how they go: a bar and tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from lab import tables
from lab.measure import running
from lab.measure.verdict import FAILS, HOLDS, INCONCLUSIVE
from lab.sandbox.outside import SandboxError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.measure.experiment import Control, Experiment

EXIT_CODES = {HOLDS: 0, FAILS: 1, INCONCLUSIVE: 3}
BROKE_OFF = 2


def run(
    experiments: Sequence[Experiment], effort: str, control: Control | None, *, as_json: bool, progress: bool
) -> int:
    """Run them all; the exit code: of the worst, where a claim that fails outranks one that broke off or is open.

    What one experiment meets does not keep the next from its turn; only where there can be no sandbox at all
    nothing is tried.
    """
    codes, documents = [], []
    for experiment in experiments:
        try:
            found = _run_one(experiment, effort, control, as_json=as_json, progress=progress)
        except SandboxError as error:
            typer.echo(f"lab: {error}", err=True)
            return BROKE_OFF
        except running.RunError as error:
            typer.echo(f"lab: {error}", err=True)
            codes.append(BROKE_OFF)
            continue
        codes.append(EXIT_CODES[found.document["verdict"]])
        documents.append(found.document)
        if as_json:
            typer.echo(running.in_one_line(found.document))
        else:
            show(found)
    if len(experiments) > 1 and not as_json:
        Console().print(tables.verdicts(documents))
    return next((code for code in (1, BROKE_OFF, 3) if code in codes), 0)


def _run_one(
    experiment: Experiment, effort: str, control: Control | None, *, as_json: bool, progress: bool
) -> running.Run:
    if progress:
        return running.run(experiment, effort, _tell, control)
    if as_json or not sys.stderr.isatty():
        return running.run(experiment, effort, _say_nothing, control)
    columns = (TextColumn("{task.fields[name]}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", name=experiment.name, total=1.0)
        return running.run(
            experiment, effort, lambda share, doing: bar.update(task, completed=share, description=doing), control
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
    environment: dict[str, Any] = document["environment"]
    console.print(
        f"kernel {environment['kernel']}, {environment['cpus']} cores, Python {environment['python']}"
        f"{'' if environment['gil'] else ' without GIL'}, {document['seconds']:.0f} s; {found.folder}",
        style="dim",
        highlight=False,
        soft_wrap=True,
    )
