"""Runs experiments one after another and shows how they go: a bar and tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
import traceback
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from lab import tables
from lab.measure import running
from lab.measure.verdict import FAILS, HOLDS, INCONCLUSIVE
from lab.sandbox.outside import SandboxError, working_form
from lab.stack import beside, containers, status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.measure.experiment import Control, Experiment

EXIT_CODES = {HOLDS: 0, FAILS: 1, INCONCLUSIVE: 3}
BROKE_OFF = 2
INTERRUPTED = 130
"""As a shell says it: 128 and the signal's number."""


def run(
    experiments: Sequence[Experiment], effort: str, control: Control | None, *, as_json: bool, progress: bool
) -> int:
    """Run them all; the exit code: of the worst, where a claim that fails outranks one that broke off or is open.

    What one experiment meets does not keep the next from its turn; only where there can be no sandbox at all
    nothing is tried.
    """
    try:
        working_form()
    except SandboxError as error:
        if status.place() == containers.PLACE:
            return _run_in_the_container(experiments, effort, control, as_json=as_json, progress=progress)
        typer.echo(f"lab: {error}", err=True)
        return BROKE_OFF
    codes: list[int] = []
    documents: list[dict[str, Any]] = []
    try:
        for experiment in experiments:
            code, document = _run_and_show(experiment, effort, control, as_json=as_json, progress=progress)
            codes.append(code)
            documents += [document] if document else []
    except KeyboardInterrupt:
        typer.echo("lab: interrupted; nothing of the run is left but its folder", err=True)
        return INTERRUPTED
    if len(experiments) > 1 and not as_json:
        Console().print(tables.verdicts(documents))
    return next((code for code in (1, BROKE_OFF, 3) if code in codes), 0)


def _run_and_show(
    experiment: Experiment, effort: str, control: Control | None, *, as_json: bool, progress: bool
) -> tuple[int, dict[str, Any] | None]:
    """The exit code of one run, and its document if it came to a result."""
    try:
        found = _run_one(experiment, effort, control, as_json=as_json, progress=progress)
    except (SandboxError, running.RunError) as error:
        typer.echo(f"lab: {error}", err=True)
        return BROKE_OFF, None
    except Exception:  # noqa: BLE001 - a slip in one experiment's file is no verdict, and the others have their turn
        traceback.print_exc()
        typer.echo(f"lab: {experiment.name} broke off; what it had found is lost", err=True)
        return BROKE_OFF, None
    if as_json:
        typer.echo(running.in_one_line(found.document))
    else:
        show(found)
    return EXIT_CODES[found.document["verdict"]], found.document


def _run_in_the_container(
    experiments: Sequence[Experiment], effort: str, control: Control | None, *, as_json: bool, progress: bool
) -> int:
    flags = {"--quick": effort == "quick", "--json": as_json, "--progress": progress}
    words = [flag for flag, wanted in flags.items() if wanted]
    if control:
        words += ["--control", control.name]
    return beside.run("run", *(experiment.name for experiment in experiments), *words)


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
