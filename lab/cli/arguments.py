"""Arguments that several commands take."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Annotated

import typer

from lab.cli.output import refuse
from services.options import MODELS

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = ", ".join(MODELS)
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
"""Seconds in each unit of a duration."""
PART = r"(\d+(?:\.\d+)?)(ms|s|m|h)"
DURATION = "DURATION"
"""Metavar of an option that `duration` reads."""


def duration(least: float, most: float = math.inf) -> Callable[[str | float], float]:
    """Return the `parser` of an option that takes seconds, such as 30, 0.5, 90s, 1m30s or 1h, within bounds."""

    def read(given: str | float) -> float:
        text = str(given)
        seconds = seconds_of(text)
        if seconds is None:
            raise typer.BadParameter(f"{text!r} is no duration: give seconds, or for example 90s, 1m or 1h")
        if not least <= seconds <= most:
            raise typer.BadParameter(f"{text}: give {least:g} s or more" + (f", up to {most:g} s" * (most < math.inf)))
        return seconds

    return read


def seconds_of(text: str) -> float | None:
    """Return the seconds that a text says; None where it is no duration."""
    if re.fullmatch(rf"(?:{PART})+", text):
        return sum(float(number) * UNITS[unit] for number, unit in re.findall(PART, text))
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) else None


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
