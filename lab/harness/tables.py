"""Tables of experiments, their checks and their verdicts, for people."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.text import Text

from lab.stack.tables import headed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.table import Table

    from lab.harness.experiment import Experiment

CHECK_WORDS = {True: ("holds", "green"), False: ("FAILS", "bold red"), None: ("open", "yellow")}
VERDICT_STYLES = {"holds": "green", "fails": "bold red", "inconclusive": "yellow", "broke off": "bold red"}
CONTROL_STYLES = {"fails, as it must": "green", "holds, which it must not": "bold red"}


class Ended(NamedTuple):
    """Result of one run: a line of the last table, and its exit code."""

    name: str
    word: str
    detail: str
    seconds: float | None
    code: int


def experiments(shown: Iterable[Experiment], often_said: Mapping[str, Sequence[str]] = MappingProxyType({})) -> Table:
    """The experiments, by chapter; below each question what is often said, and was measured otherwise."""
    table = headed("chapter", "experiment", "question")
    chapter = ""
    for experiment in shown:
        question = Text(experiment.question)
        for line in often_said.get(experiment.name, ()):
            question.append(f"\n{line}", style="dim")
        table.add_row("" if experiment.chapter == chapter else experiment.chapter, experiment.name, question)
        chapter = experiment.chapter
    return table


def checks(document: dict[str, Any]) -> Table:
    """Return the checks of a run: claim and expectation beside what was measured."""
    table = headed("", "claim", "expected", "measured")
    for check in document["checks"]:
        word, style = CHECK_WORDS[check["holds"]]
        table.add_row(Text(word, style=style), Text(check["claim"]), Text(check["expected"]), Text(check["measured"]))
    return table


def verdicts(ended: Iterable[Ended]) -> Table:
    """One line a run."""
    table = headed("experiment", "verdict", "claims", "seconds")
    styles = VERDICT_STYLES | CONTROL_STYLES
    for run in ended:
        seconds = "" if run.seconds is None else f"{run.seconds:.0f}"
        table.add_row(run.name, Text(run.word, style=styles[run.word]), Text(run.detail), seconds)
    return table
