"""The command line of a server, made from the option table; and changes to it while the server runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from services.options import MODELS, Option, options_of

Options = dict[str, Any]
"""By name, with underscores; "model" beside them."""


def parse(arguments: Sequence[str] | None) -> Options:
    """The options. Exits with 2 and a line that says what to do if they are wrong."""
    parser = argparse.ArgumentParser(prog="python -m services", description="One server in the foreground.")
    models = parser.add_subparsers(dest="model", required=True, metavar="MODEL", help=", ".join(MODELS))
    for name, model in MODELS.items():
        sub = models.add_parser(name, help=model.term, description=f"{name}: {model.term}")
        for option in options_of(name):
            add_option(sub, option, model.worker_kinds)
    options = vars(parser.parse_args(arguments))
    options["worker_kind"] = options["worker_kind"] or MODELS[options["model"]].worker_kinds[0]
    if not valid_rate(options["sample_rate"]):
        parser.error(f"--sample-rate {options['sample_rate']!r}: give auto or a whole number from 1")
    return options


def add_option(parser: argparse.ArgumentParser, option: Option, worker_kinds: tuple[str, ...]) -> None:
    """One option of the table as one of argparse."""
    text = option.help.replace("%", "%%") + (f" (default: {option.default})" if option.default != "" else "")
    if isinstance(option.default, bool):
        parser.add_argument(f"--{option.name}", action="store_true", help=option.help)
    elif option.choices:
        choices = worker_kinds if option.name == "worker-kind" else option.choices
        parser.add_argument(f"--{option.name}", default=option.default, choices=choices, help=text)
    else:
        parser.add_argument(f"--{option.name}", default=option.default, type=reader(option), help=text)


def reader(option: Option) -> Callable[[str], Any]:
    """The option's `read`, with errors as argparse wants them."""

    def read(text: str) -> Any:
        try:
            return option.read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def change(options: Options, changes: dict[str, Any]) -> Options:
    """All options as they will be after `changes`. Raises ValueError with what cannot be changed so, and why."""
    known = {option.name: option for option in options_of(options["model"])}
    changed = dict(options)
    for name, value in changes.items():
        option = known.get(name.replace("_", "-"))
        if option is None:
            raise ValueError(f"there is no option {name!r}; there are {', '.join(known)}")
        if not option.live:
            live = ", ".join(name for name, option in known.items() if option.live)
            raise ValueError(f"--{option.name} cannot be changed while the server runs; these can: {live}")
        try:
            changed[option.key] = option.read(str(value))
        except ValueError as error:
            raise ValueError(f"--{option.name} {error}") from None
    return changed


def valid_rate(text: str) -> bool:
    """`auto`, or one in N."""
    return text == "auto" or (text.isdecimal() and int(text) > 0)
