"""Output and exit codes of every command, whatever the terminal or pipe that it goes to."""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import os
import select
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CLAIM_FAILED, BAD_USAGE, INCONCLUSIVE = 1, 2, 3
BROKEN_PIPE = 141
"""As a shell says it: 128 and the number of SIGPIPE, which ends programs that do not ignore it."""
PLAIN = {
    "×": "x", "–": "-", "—": "-", "…": "...", "→": "->", "µ": "u", "·": "-", "÷": "/", "≤": "<=", "≥": ">=", "≈": "~",
    "“": "'", "”": "'", "\u2018": "'", "\u2019": "'", "█": "#", "†": "+",
}  # fmt: skip
"""Replacements of characters in an encoding that lacks them. No double quote, which would end a string of JSON."""


def plain(error: UnicodeError) -> tuple[str, int]:
    """Replace what an encoding lacks, for `codecs.register_error`: by what looks alike, or else as JSON escapes it."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(PLAIN.get(character) or json.dumps(character)[1:-1] for character in lacking), error.end


codecs.register_error("lab.plain", plain)


@contextlib.contextmanager
def any_output() -> Iterator[None]:
    """Let no encoding of the output, and no reader that leaves early, end a command with a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # in UTF-8, too, which lacks what a path in no encoding is read as
            stream.reconfigure(errors="lab.plain")
    before = _identity()
    try:
        yield
    except SystemExit as end:
        if _identity() != before:  # rich has discarded the output, and exits with 1
            sys.exit(BROKEN_PIPE)
        _print_the_rest(told=bool(end.code))
        raise


def _print_the_rest(*, told: bool) -> None:
    """Print what is buffered; exit where that fails, with a line unless one has `told` already what is wrong."""
    try:
        flush()
    except BrokenPipeError:
        sys.exit(discard_output())
    except OSError as error:  # its disk is full
        discard_output()
        if not told:
            say(f"the output cannot be written: {error.strerror}")
            sys.exit(BAD_USAGE)


def discard_output() -> int:
    """Send nowhere what cannot be written, or the interpreter would try again, and complain; return the exit code."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
    return BROKEN_PIPE


def nobody_reads() -> bool:
    """Return whether output or errors go to a pipe that nobody reads any more."""
    pipes = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            pipes.register(stream.fileno(), 0)
    return any(events & select.POLLERR for _, events in pipes.poll(0))


def flush() -> None:
    """Print what is buffered, where there is a standard output."""
    if sys.stdout is not None:
        sys.stdout.flush()


def _identity() -> tuple[int, int] | None:
    """Return what tells the file behind the standard output from others; None where there is none."""
    try:
        found = os.fstat(sys.stdout.fileno())
    except (AttributeError, OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def refuse(text: str) -> NoReturn:
    """Say why not, and what to do next, and exit with 2."""
    say(text)
    raise typer.Exit(BAD_USAGE)


def say(text: str) -> None:
    """A line about the run itself, after what has been printed so far."""
    with contextlib.suppress(OSError):  # whoever prints more, or exits, is told
        flush()
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
