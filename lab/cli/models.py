"""Commands of the help panel "Models"."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from lab import machines
from lab.cli.arguments import NAMES, JsonOption, ModelName, check_model
from lab.cli.output import print_json, print_rich, refuse
from lab.settings import up_at

PANEL = "Models"
app = typer.Typer()


@app.command(rich_help_panel=PANEL)
def models(as_json: JsonOption = False) -> None:
    """Show who listens, accepts, reads, executes and writes in each model, and what its options teach."""
    from lab import models_table

    if as_json:
        print_json(models_table.document())
    else:
        print_rich(models_table.tables())


@app.command(
    rich_help_panel=PANEL,
    # What follows the model, --help too, is the server's.
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
def serve(
    model: ModelName,
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="OPTIONS", help="The model's options: `lab serve MODEL --help` lists them."),
    ] = None,
) -> None:
    """Run one server in the foreground until Ctrl-C. Same as `python -m services MODEL`.

    Example: lab serve nginx --port 8000 --admin-port 9100 --workers 2 --wakeup herd

    Watch it with: lab top --url http://127.0.0.1:9100
    """
    if model.startswith("-"):
        refuse(f"the model comes before its options: lab serve MODEL {model} …, where MODEL is one of {NAMES}")
    check_model(model)
    if not machines.LINUX:
        refuse(f"the servers need Linux: `{up_at('containers')}` has them on a Docker engine")
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "services", model, *(options or [])])


@app.command("set", rich_help_panel=PANEL)
def set_options(
    model: ModelName,
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="OPTION=VALUE", help="What to change; `lab models` says what it teaches.", show_default=False
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Change options of a running model. Its workers finish what they have begun, and start again.

    Example: lab set nginx workers=2 wakeup=herd

    The change lasts until the model is started anew; for good it belongs in provisioning/group_vars/all.yml.
    """
    from lab.stack import control

    check_model(model)
    try:
        in_force = control.change(model, settings or [])
        changed = control.read_settings(model, settings or [])
    except control.ControlError as error:
        refuse(str(error))
    if as_json:
        print_json(in_force)
    else:
        shown = (f"--{name} {in_force[name.replace('-', '_')]}" for name in changed)
        typer.echo(f"{model} now runs with {' '.join(shown)}")


@app.command(rich_help_panel=PANEL)
def chaos(
    action: Annotated[str, typer.Argument(metavar="kill|pause|resume", help="What to do.", show_default=False)],
    model: ModelName,
    worker: Annotated[
        int | None, typer.Option(min=0, help="Only this worker, where workers are processes.", show_default=False)
    ] = None,
) -> None:
    """Inject a fault into a running model: kill it or pause it; or resume it.

    Example: lab chaos pause reuseport --worker 0
    """
    from lab.stack.chaos import Action, ChaosError, inject

    check_model(model)
    if action not in list(Action):
        refuse(f"{action!r}: give one of {', '.join(Action)}")
    try:
        typer.echo(inject(Action(action), model, worker))
    except ChaosError as error:
        refuse(str(error))
