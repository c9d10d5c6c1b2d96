"""`lab models`: the five models side by side, and what each option of theirs teaches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from services.options import MODELS, Option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

QUESTIONS = ("listens", "accepts", "reads", "executes", "writes", "term")


def document() -> list[dict[str, Any]]:
    """The table as data, for `--json`."""
    return [
        {
            "name": model.name,
            **{question: getattr(model, question) for question in QUESTIONS},
            "worker_kinds": list(model.worker_kinds),
            "options": [_option(option) for option in model.options],
        }
        for model in MODELS.values()
    ]


def tables() -> Iterator[Table]:
    """Who listens, accepts, reads, executes and writes; then the options."""
    yield _models()
    yield _options()


def values(option: Option) -> str:
    """What the option takes, the default first."""
    if option.choices:
        return "\n".join(option.choices)
    most = "" if option.maximum is None else f" to {option.maximum:g}"
    return f"{option.default} (from {option.minimum:g}{most})"


def _option(option: Option) -> dict[str, Any]:
    return {
        "name": option.name,
        "default": option.default,
        "choices": list(option.choices),
        "help": option.help,
        "teaches": option.teaches,
        "live": option.live,
    }


def _models() -> Table:
    from rich.table import Table

    table = Table(title="Who does what", title_justify="left", header_style="bold", show_lines=True)
    table.add_column("model", style="bold cyan", no_wrap=True)
    for question in QUESTIONS:
        table.add_column("the field's term" if question == "term" else question)
    table.add_column("workers")
    for model in MODELS.values():
        table.add_row(model.name, *(getattr(model, question) for question in QUESTIONS), "\n".join(model.worker_kinds))
    return table


def _options() -> Table:
    from rich.table import Table

    table = Table(
        title="Variants and remedies are options (first value: the default)",
        title_justify="left",
        header_style="bold",
        show_lines=True,
    )
    table.add_column("model", style="bold cyan", no_wrap=True)
    table.add_column("option", no_wrap=True)
    table.add_column("values", no_wrap=True)
    table.add_column("decides")
    table.add_column("teaches")
    for model in MODELS.values():
        for option in model.options:
            table.add_row(model.name, f"--{option.name}", values(option), option.help, option.teaches)
    return table
