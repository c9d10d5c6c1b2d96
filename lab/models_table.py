"""`lab models`: the five models side by side, and what each option of theirs teaches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from services.options import MODELS, Option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

QUESTIONS = ("listens", "accepts", "reads", "executes", "writes", "term")
WORKER_KIND = "--worker-kind: threads share memory and, with the GIL, one lock; processes share neither"


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
    """Yield the tables: who listens, accepts, reads, executes and writes; then the options. Both fit 80 columns."""
    yield _models()
    yield _options()


def values(option: Option) -> str:
    """Return the values of the option, the default first."""
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
    table = _table("Who does what")
    table.add_column("model", style="bold cyan", no_wrap=True)
    for question in QUESTIONS[:-1]:
        # Rich would rather break a word than give each column what its longest word takes.
        texts = [question, *(getattr(model, question) for model in MODELS.values())]
        table.add_column(question, width=max(len(word) for text in texts for word in text.split()))
    table.add_column("field's term")
    for model in MODELS.values():
        table.add_row(model.name, *(getattr(model, question) for question in QUESTIONS))
        table.add_row()
    return table


def _options() -> Table:
    table = _table("Variants and remedies are options (first value: the default)")
    table.caption, table.caption_justify = WORKER_KIND, "left"
    table.add_column("model", style="bold cyan", no_wrap=True)
    table.add_column("option", no_wrap=True)
    table.add_column("values", no_wrap=True)
    table.add_column("decides, and teaches")
    for model in MODELS.values():
        table.add_row(model.name, "--worker-kind", "\n".join(model.worker_kinds), "what a worker is")
        for option in model.options:
            lesson = f"{option.help}.\n[italic]{option.teaches}[/]" if option.teaches else option.help
            table.add_row("", f"--{option.name}", values(option), lesson)
        table.add_row()
    return table


def _table(title: str) -> Table:
    # Rich takes 40 ms to import, and only people need it.
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    return Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
