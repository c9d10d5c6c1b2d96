"""Tables of the machine and of the stack's parts, for people. Their data are the modules' own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lab.stack.doctor import Finding
    from lab.stack.parts import Part

MEBIBYTE = 2**20
LEVEL_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}
HEALTH_STYLES = {"ok": "green", "failing": "bold red"}


def findings(found: Iterable[Finding]) -> Table:
    """Return what the machine has; below what is not well, what to do about it."""
    table = headed("", "what", "found")
    for finding in found:
        detail = Text(finding.detail)
        if finding.level != "ok" and finding.remedy:
            detail.append(f"\n→ {finding.remedy}", style=LEVEL_STYLES.get(finding.level, ""))
        table.add_row(Text(finding.level, style=LEVEL_STYLES.get(finding.level, "")), Text(finding.subject), detail)
    return table


def parts(shown: Sequence[Part]) -> Table:
    """Return what runs where, and what it costs. All parts are in one place."""
    table = headed("part", "state", "health", "where")
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


def headed(*headings: str) -> Table:
    """A table of the lab's one look, with these columns."""
    table = Table(header_style="bold", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in headings:
        table.add_column(heading)
    return table
