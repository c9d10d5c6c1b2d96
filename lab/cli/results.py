"""Commands `lab results …`."""

from __future__ import annotations

from typing import Annotated

import typer

from lab.cli.arguments import JsonOption
from lab.cli.output import print_json, refuse, say

app = typer.Typer(no_args_is_help=True, help="List, pin and remove the runs that are kept in .lab/results.")


@app.command("list")
def list_results(as_json: JsonOption = False) -> None:
    """List the stored runs, the oldest first; those that cannot be read with the reason."""
    from lab import results

    found = [
        {"run": run.name, "kind": run.kind, "pinned": run.pinned, "trouble": run.trouble} for run in results.runs()
    ]
    if as_json:
        print_json(found)
        return
    for each in found:
        typer.echo(
            f"{each['run']:<48} {each['kind']:<11} {'pinned ' if each['pinned'] else ''}{each['trouble']}".rstrip()
        )


@app.command()
def prune(
    keep: Annotated[
        int | None, typer.Option(min=0, help="How many runs to keep [$LAB_RESULTS_KEEP, or 200].", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
) -> None:
    """Remove the oldest runs beyond the bound of number and size (2 GB); pinned runs stay."""
    from lab import results
    from lab.report import page

    removed = results.prune(keep, dry_run=dry_run)
    for name in removed:
        typer.echo(name)
    say(f"{len(removed)} {'to remove' if dry_run else 'removed'}")
    if removed and not dry_run:
        page.write_index()


@app.command()
def pin(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A folder of .lab/results.", show_default=False)],
    off: Annotated[bool, typer.Option("--off", help="Let it be removed again.")] = False,
) -> None:
    """Keep a run however many come after it."""
    from lab import results

    try:
        typer.echo(results.pin(run, pinned=not off))
    except results.ResultsError as error:
        refuse(str(error))
