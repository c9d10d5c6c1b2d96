"""Commands of the help panel "Looking"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lab.cli.arguments import DURATION, duration
from lab.cli.output import print_rich, refuse, say
from lab.settings import CONSOLE, HOST, console_names, host_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.top.samples import Source

PANEL = "Looking"
app = typer.Typer()


@app.command(rich_help_panel=PANEL)
def top(
    interval: Annotated[
        float, typer.Option(parser=duration(0.1, 60), metavar=DURATION, help="Time between two looks.")
    ] = 1.0,
    url: Annotated[
        list[str] | None,
        typer.Option(
            help="Admin URL of a server to watch instead of the stack's; may be repeated.", show_default=False
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Print one sample and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The same, as JSON.")] = False,
) -> None:
    """Watch the running models: queues, connections, requests a second, stages, workers.

    Ctrl-C ends. With --once or --json, exits with 2 if no model answers.
    """
    from rich.console import Console

    from lab.top import live

    sources = sources_of(url)
    console = Console()
    if not (once or as_json or console.is_terminal):
        say("this is not a terminal: one sample, as with --once")
    if once or as_json or not console.is_terminal:
        print_sample(sources, interval, as_json=as_json)
    else:
        live(sources, interval, console)


def sources_of(urls: Sequence[str] | None) -> list[Source]:
    """Return the servers at `urls`, or else those of the stack."""
    from lab.top import stack_sources
    from lab.top.samples import source_of

    try:
        return [source_of(url) for url in urls] if urls else stack_sources()
    except ValueError as error:
        refuse(str(error))


def print_sample(sources: Sequence[Source], interval: float, *, as_json: bool) -> None:
    """One sample on stdout."""
    from lab import top as watching
    from lab.top.view import COLUMNS, HINT, Screen, render

    readings = watching.once(sources, interval)
    if as_json:
        typer.echo(watching.document(readings, interval))
    else:
        print_rich([render(readings, Screen(interval, live=False))], least_columns=COLUMNS)
    if not any(reading.up for reading in readings):
        refuse(HINT)


@app.command(rich_help_panel=PANEL)
def console(
    host: Annotated[
        str, typer.Option(help="Address to listen on: who can reach it can put load on the models.")
    ] = HOST,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port [$LAB_CONSOLE_PORT, or 8080].", show_default=False)
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOSTNAME",
            help="Name by which browsers may call it, beside addresses and localhost; may be repeated "
            "[$LAB_CONSOLE_NAMES].",
            show_default=False,
        ),
    ] = None,
    idle_interval: Annotated[
        float,
        typer.Option(
            parser=duration(0.5, 60), metavar=DURATION, help="Time between two looks at the models while nobody looks."
        ),
    ] = 1.0,
) -> None:
    """Show the running models in a browser: their anatomy with live figures, charts, load, options, experiments.

    It needs neither Prometheus nor Grafana. The stack has one already; this is the page alone. Ctrl-C ends.
    """
    from lab.console.page import serve as serve_page
    from lab.stack.ports import explain, listening, refusal

    number = port or CONSOLE.number
    if code := refusal(number, host):
        refuse(f"port {number} {explain(code, listening().get(number))}: move it with --port or {CONSOLE.variable}")
    names = [*console_names(), *host_names(" ".join(name or ()), "--name")]
    serve_page(host, number, names, idle_interval)
