"""Output and exit codes of every command."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable

CLAIM_FAILED, BAD_USAGE, INCONCLUSIVE = 1, 2, 3


def refuse(text: str) -> NoReturn:
    """Say why not, and what to do next, and exit with 2."""
    say(text)
    raise typer.Exit(BAD_USAGE)


def say(text: str) -> None:
    """A line about the run itself."""
    typer.echo(f"lab: {text}", err=True)


def print_json(document: object) -> None:
    """One document, alone on stdout."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def print_rich(things: Iterable[Any], least_columns: int = 0) -> None:
    """Tables and texts, in colour where the terminal has it.

    A pipe counts as 80 columns wide, unless COLUMNS says otherwise; `least_columns` is for what needs more.
    """
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, least_columns)
    for thing in things:
        console.print(thing)
