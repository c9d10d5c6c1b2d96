"""Command line `lab`: parsing and printing only. Each help panel has a file; a command's work is in a module elsewhere.

Those modules are imported inside the commands, so that `lab --help` need not wait for them.

Exit codes: 0 good, 1 the claim failed (`status`: not all of the stack works; `load`: requests failed; `compare`:
figures differ), 2 bad usage or environment, 3 inconclusive. Output that was asked for goes to stdout, and everything
about the run itself to stderr, so that `--json` can always be piped.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lab import __version__, state_folder
from lab.cli import advising, experiments, looking, measuring, models, stack
from lab.cli.output import any_output, discard_output, nobody_reads, refuse
from lab.settings import SETUP, SettingError

PANELS = (stack, models, looking, measuring, advising, experiments)
NEED_STATE = frozenset({
    "up", "down", "status", "set", "chaos", "console", "load", "results", "compare", "fidelity", "run", "report",
})  # fmt: skip
"""Commands that use the state folder of the stack, or write there."""
HELP = frozenset({"--help", "-h"})


class Lab(TyperGroup):
    """All commands: what a variable, a disk or the environment has wrong is a line, never a traceback."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line."""
        with any_output():
            return super().main(*args, **kwargs)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return a command by its name, unless it needs a state folder that is not for this user."""
        name, command, rest = super().resolve_command(ctx, args)
        if name in NEED_STATE and HELP.isdisjoint(rest) and (refusal := state_folder.refusal()):
            refuse(refusal)
        return name, command, rest

    def invoke(self, ctx: Any) -> Any:
        """Run one command."""
        try:
            return super().invoke(ctx)
        except SettingError as error:
            refuse(str(error))
        except BrokenPipeError as error:
            if not nobody_reads():
                raise  # a socket's
            raise typer.Exit(discard_output()) from error
        except OSError as error:
            if explained := state_folder.explain(error):
                refuse(explained)
            raise
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] in {"lab", "services", "loadtests"}:
                raise  # ours: a bug, not an environment
            refuse(f"the Python package {error.name!r} is missing: `{SETUP}` installs what the lab needs")


app = typer.Typer(
    cls=Lab,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Five ways to accept a connection, serving the same application, watched from the kernel's queues up.",
    epilog="Exit codes: 0 good, 1 the claim failed, 2 bad usage or environment, 3 inconclusive.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for panel in PANELS:
    app.add_typer(panel.app)  # no name: its commands are commands of `lab`


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lab {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Take the options of `lab` itself."""
