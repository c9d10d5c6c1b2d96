"""Tables for people, of what `lab doctor`, `lab status` and `lab run` found. Their data are the modules' own."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lab.measure.experiment import Experiment
    from lab.measure.show import Ended
    from lab.stack.doctor import Finding
    from lab.stack.parts import Part

MEBIBYTE = 2**20
LEVEL_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}
CHECK_WORDS = {True: ("holds", "green"), False: ("FAILS", "bold red"), None: ("open", "yellow")}
VERDICT_STYLES = {"holds": "green", "fails": "bold red", "inconclusive": "yellow", "broke off": "bold red"}
CONTROL_STYLES = {"fails, as it must": "green", "holds, which it must not": "bold red"}
HEALTH_STYLES = {"ok": "green", "failing": "bold red"}


def findings(found: Iterable[Finding]) -> Table:
    """What the machine has; below what is not well, what to do about it."""
    table = _table("", "what", "found")
    for finding in found:
        detail = Text(finding.detail)
        if finding.level != "ok" and finding.remedy:
            detail.append(f"\n→ {finding.remedy}", style=LEVEL_STYLES.get(finding.level, ""))
        table.add_row(Text(finding.level, style=LEVEL_STYLES.get(finding.level, "")), Text(finding.subject), detail)
    return table


def parts(shown: Sequence[Part]) -> Table:
    """What runs where, and what it costs. All parts are in one place."""
    table = _table("part", "state", "health", "where")
    table.title = f"place: {shown[0].place}" if shown else None
    # Beside the figures on 80 columns: an address that is cut is no use.
    table.columns[-1].min_width = len("http://127.0.0.1:65535")
    for heading in ("pid", "cpu %", "MiB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for part in shown:
        figures = (str(part.pid), f"{part.cpu_percent:.0f}", f"{part.memory_bytes / MEBIBYTE:.0f}")
        table.add_row(
            Text(part.name),
            part.state,
            Text(part.health, style=HEALTH_STYLES.get(part.health, "dim")),
            Text("\n".join(text for text in (part.url, part.detail) if text)),
            *(figures if part.pid else ("", "", "")),
        )
    return table


def experiments(shown: Iterable[Experiment], often_said: Mapping[str, Sequence[str]] = MappingProxyType({})) -> Table:
    """The experiments, by chapter; below each question what is often said, and was measured otherwise."""
    table = _table("chapter", "experiment", "question")
    chapter = ""
    for experiment in shown:
        question = Text(experiment.question)
        for line in often_said.get(experiment.name, ()):
            question.append(f"\n{line}", style="dim")
        table.add_row("" if experiment.chapter == chapter else experiment.chapter, experiment.name, question)
        chapter = experiment.chapter
    return table


def checks(document: dict[str, Any]) -> Table:
    """What a run's checks came to: claim and expectation beside what was measured."""
    table = _table("", "claim", "expected", "measured")
    for check in document["checks"]:
        word, style = CHECK_WORDS[check["holds"]]
        table.add_row(Text(word, style=style), Text(check["claim"]), Text(check["expected"]), Text(check["measured"]))
    return table


def verdicts(ended: Iterable[Ended]) -> Table:
    """One line a run."""
    table = _table("experiment", "verdict", "claims", "seconds")
    styles = VERDICT_STYLES | CONTROL_STYLES
    for run in ended:
        seconds = "" if run.seconds is None else f"{run.seconds:.0f}"
        table.add_row(run.name, Text(run.word, style=styles[run.word]), Text(run.detail), seconds)
    return table


def _table(*headings: str) -> Table:
    table = Table(header_style="bold", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in headings:
        table.add_column(heading)
    return table
