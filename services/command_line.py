"""The command line of a server, made from the option table; and changes to it while the server runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from services.options import MODELS, Option, options_of

Options = dict[str, Any]
"""Options by name, with underscores; the model's name is under "model"."""


def parse(arguments: Sequence[str] | None) -> Options:
    """Return the options. Exits with 2 and a line that says what to do if they are wrong."""
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
    """Add an option of the table to argparse's."""
    text = option.help.replace("%", "%%") + (f" (default: {option.default})" if option.default != "" else "")
    if isinstance(option.default, bool):
        parser.add_argument(f"--{option.name}", action="store_true", help=option.help)
    elif option.choices:
        choices = worker_kinds if option.name == "worker-kind" else option.choices
        parser.add_argument(f"--{option.name}", default=option.default, choices=choices, help=text)
    else:
        parser.add_argument(f"--{option.name}", default=option.default, type=reader(option), help=text)


def reader(option: Option) -> Callable[[str], Any]:
    """Return the option's `read`, with errors as argparse wants them."""

    def read(text: str) -> Any:
        try:
            return option.read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def change(options: Options, changes: dict[str, Any]) -> Options:
    """Return all options as they will be after `changes`. Raises ValueError with what cannot be changed so, and why."""
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
    if changed.get("app") and changed.get("cluster") and not options.get("cluster"):
        # What main has imported, with its threads and descriptors, its children would have, too.
        raise ValueError("--cluster: main has imported the application; end the server, and start it with a cluster")
    return changed


def valid_rate(text: str) -> bool:
    """Return whether the text is `auto` or a number N from 1, for one in N."""
    return text == "auto" or (text.isdecimal() and int(text) > 0)
