"""The command `lab advise`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lab.cli.arguments import DURATION, JsonOption, duration
from lab.cli.output import print_json, print_rich, refuse, say

PANEL = "Measuring"
HALF = "0: half of what one worker can serve."
app = typer.Typer()


@app.command(rich_help_panel=PANEL)
def advise(
    application: Annotated[
        str, typer.Argument(metavar="MODULE:ATTRIBUTE", help="A WSGI or ASGI application.", show_default=False)
    ],
    cheap: Annotated[
        list[str] | None, typer.Option(help="A route that is served fast; may be repeated; / by default.")
    ] = None,
    blocking: Annotated[
        list[str] | None,
        typer.Option(help="A route that keeps its worker waiting or computing; may be repeated.", show_default=False),
    ] = None,
    app_dir: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Folder in which the module is.")
    ] = Path(),
    server: Annotated[
        list[str] | None,
        typer.Option(help="Only this model, gunicorn-gthread or uvicorn; may be repeated.", show_default=False),
    ] = None,
    workers: Annotated[
        list[int] | None,
        typer.Option(min=1, max=256, help="Workers of each model; may be repeated. [1, the cores, twice the cores]"),
    ] = None,
    rate: Annotated[float, typer.Option(min=0, help=f"Cheap requests a second in the steady load; {HALF}")] = 0.0,
    blocking_rate: Annotated[float, typer.Option(min=0, help=f"Blocking requests a second; {HALF}")] = 0.0,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Times that every server is measured.")] = 5,
    seconds: Annotated[
        float, typer.Option(parser=duration(0.5, 600), metavar=DURATION, help="Length of each load.")
    ] = 2.0,
    as_json: JsonOption = False,
) -> None:
    """Measure an application of yours behind all models, gunicorn and uvicorn: what differs, at which price, and why.

    Example: lab advise shop:app --cheap /price --blocking /report

    Ten minutes on two cores. Fewer than three rounds tell no differences.
    """
    from lab.advise import measuring
    from lab.advise.servers import NAMES
    from lab.advise.tables import shown
    from lab.peers.application import Application
    from lab.peers.process import PeerError

    routes = tuple(cheap or ("/",)), tuple(blocking or ())
    if wrong := [path for paths in routes for path in paths if not path.startswith("/")]:
        refuse(f"{wrong[0]!r} is no route: give a path such as /price")
    if unknown := sorted({*(server or ())} - {*NAMES}):
        refuse(f"no server is called {unknown[0]!r}; there are {', '.join(NAMES)}")
    asked = measuring.Question(
        Application(application, app_dir.resolve()), *routes, tuple(workers or ()), tuple(server or ()),
        rounds, seconds, rate, blocking_rate,
    )  # fmt: skip
    try:
        document = measuring.run(asked, progress=say)
    except (measuring.AdviceError, PeerError) as error:
        refuse(str(error))
    if as_json:
        print_json(document)
    else:
        print_rich(shown(document), least_columns=100)
