"""Arguments that several commands take."""

from __future__ import annotations

from typing import Annotated

import typer

from lab.cli.output import refuse
from services.options import MODELS

NAMES = ", ".join(MODELS)


def _models_beginning(incomplete: str) -> list[str]:
    return [name for name in MODELS if name.startswith(incomplete)]


ModelName = Annotated[
    str,
    typer.Argument(metavar="MODEL", help=f"One of {NAMES}.", show_default=False, autocompletion=_models_beginning),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


def check_model(name: str) -> None:
    """Refuse a model that there is not."""
    if name not in MODELS:
        refuse(f"no model is called {name!r}; there are {NAMES} (`lab models` shows them)")
