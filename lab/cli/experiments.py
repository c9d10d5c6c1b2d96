"""Commands of the help panel "Experiments"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lab import state_folder
from lab.cli.arguments import JsonOption
from lab.cli.output import print_json, print_rich, refuse, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.harness.experiment import Control, Experiment

PANEL = "Experiments"
app = typer.Typer()


@app.command("list", rich_help_panel=PANEL)
def list_experiments(as_json: JsonOption = False) -> None:
    """Show the experiments: the question of each, by chapter, and what is often said and measured otherwise."""
    from lab.experiments import all_experiments
    from lab.report.theory import corrections_of, often_said

    if as_json:
        fields = ("name", "chapter", "question", "predict")
        print_json(
            [
                {field: getattr(found, field) for field in fields}
                | {"corrects": [proof.document() for proof in corrections_of(found)]}
                for found in all_experiments()
            ]
        )
    else:
        from lab.harness.tables import experiments

        said = {found.name: [often_said(proof) for proof in corrections_of(found)] for found in all_experiments()}
        print_rich([experiments(all_experiments(), said)])


@app.command(rich_help_panel=PANEL)
def run(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME…", help="Experiments; `lab list` shows them.", show_default=False),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them, and one table at the end.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="The same checks on shorter trials: 20 s at most each.")
    ] = False,
    control: Annotated[
        str | None,
        typer.Option(help="Take the cause away: the claim must then fail (exit code 1).", show_default=False),
    ] = None,
    controls: Annotated[
        bool, typer.Option("--controls", help="Every control in turn; exits with 0 if all that they name fails.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a line, one line an experiment.")] = False,
    progress: Annotated[
        bool, typer.Option("--progress", help="With --json: progress as JSON lines on stderr.")
    ] = False,
) -> None:
    """Prove a claim in a throwaway sandbox, with the kernel's own counters.

    Example: lab run busiest-worker --quick

    Exits with 0 if every claim holds, 1 if one fails, 2 if one cannot be tried here, 3 if one is inconclusive.
    """
    from lab.harness import show
    from lab.report import page

    if everything == bool(names):
        refuse("give the names of experiments, or --all; `lab list` shows them")
    if control and (everything or controls or len(names or ()) > 1):
        refuse("--control belongs to one experiment: name just that one, or give --controls")
    chosen, without = declared(names or (), control)
    form = show.Form("quick" if quick else "full", as_json, progress, page.write_with_index)
    raise typer.Exit(show.run_controls(chosen, form) if controls else show.run(chosen, form, without))


def declared(names: Sequence[str], control: str | None) -> tuple[Sequence[Experiment], Control | None]:
    """The experiments of these names, or all, and the control of the first."""
    from lab.experiments import UnknownExperimentError, all_experiments, control_of, named

    try:
        chosen = [named(name) for name in names] or all_experiments()
        return chosen, control_of(chosen[0], control) if control else None
    except UnknownExperimentError as error:
        refuse(str(error))


@app.command(rich_help_panel=PANEL)
def report(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN…", help="Folders of .lab/results, or experiments: their last run.", show_default=False
        ),
    ] = None,
) -> None:
    """Make the pages of runs anew, all of them or those named, and the index; say where they are.

    Example: lab report busiest-worker
    """
    from lab import results

    state_folder.require_room(results.RESULTS)
    from lab.report import page

    try:
        chosen = [results.named(name) for name in runs or ()] or results.runs()[::-1]
    except results.ResultsError as error:
        refuse(str(error))
    pages = [page.write(run) for run in chosen if not run.trouble]
    for run in chosen:
        if run.trouble:
            say(f"{run.name} {run.trouble}")
    if not chosen:
        refuse("there is no run yet: `lab run NAME` makes one, `lab list` shows the names")
    index = page.write_index()
    for path in pages if runs else ():
        typer.echo(path)
    typer.echo(index)
