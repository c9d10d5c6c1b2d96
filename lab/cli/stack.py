"""Commands of the help panel "The stack"."""

from __future__ import annotations

import os
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from lab import settings
from lab.cli import grafana
from lab.cli.arguments import JsonOption
from lab.cli.output import BAD_USAGE, CLAIM_FAILED, print_json, print_rich, say

PANEL = "The stack"
app = typer.Typer()
app.add_typer(grafana.app, name="grafana", rich_help_panel=PANEL)


class Place(StrEnum):
    """Place in which the stack runs."""

    auto = "auto"
    containers = "containers"
    local = "local"
    vms = "vms"


PlaceOption = Annotated[Place, typer.Option(help="Where the stack runs; auto takes what this machine can have.")]


@app.command(rich_help_panel=PANEL)
def doctor(as_json: JsonOption = False) -> None:
    """Say what this machine can run, and what to do about what it cannot.

    Exits with 2 if something fails that the lab cannot do without.
    """
    from lab.stack.doctor import examine

    found = examine()
    if as_json:
        print_json([asdict(finding) for finding in found])
    else:
        from lab.stack.tables import findings

        print_rich([findings(found)])
    if any(finding.level == "fail" for finding in found):
        raise typer.Exit(BAD_USAGE)


@app.command(rich_help_panel=PANEL)
def up(
    place: PlaceOption = Place.auto,
    app: Annotated[
        str, typer.Option(help="Serve an application of your own, MODULE:ATTRIBUTE.", envvar="LAB_APP")
    ] = "",
    app_dir: Annotated[str, typer.Option(help="Where its module is.", envvar="LAB_APP_DIR")] = ".",
) -> None:
    """Bring the stack up: five models, metrics, load generator. Same as `make lab-up`."""
    from lab.stack import own_application, up_down

    os.environ.update({own_application.NAME: app, own_application.FOLDER: app_dir})
    raise typer.Exit(up_down.up(place.value))


@app.command(rich_help_panel=PANEL)
def down(
    place: PlaceOption = Place.auto,
    remove: Annotated[
        bool, typer.Option("--remove", help="With --place vms: take everything off the hosts that the lab brought.")
    ] = False,
) -> None:
    """End the stack; nothing of it stays behind. Same as `make lab-down`."""
    from lab.stack import up_down

    raise typer.Exit(up_down.down(place.value, remove=remove))


@app.command(rich_help_panel=PANEL)
def status(place: PlaceOption = Place.auto, as_json: JsonOption = False) -> None:
    """Show what runs where, whether it works, and what it costs.

    Exits with 1 if nothing runs or a part that should run does not work.
    """
    from lab.stack.status import parts

    found = [part for part in parts() if place in {Place.auto, part.place}]
    if as_json:
        print_json([asdict(part) for part in found])
    else:
        from lab.stack.tables import parts as table

        print_rich([table(found)])
    # With the table, or whoever reads that through a pipe would see it after its summary.
    tell = say if as_json else typer.echo
    running = [part for part in found if part.pid]
    if not running:
        tell(f"nothing runs: `{settings.UP}` starts the stack")
    # A part that this machine cannot have is absent, and no fault.
    troubled = [part.name for part in found if part.state != "absent" and part.health != "ok"]
    if running and troubled:
        tell(f"not well: {', '.join(troubled)}; `lab up` starts what is down, the logs are in .lab/logs")
    if not running or troubled:
        raise typer.Exit(CLAIM_FAILED)
