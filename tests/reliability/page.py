"""The stored figures, and the page that is made of them: docs/reliability.json and docs/reliability.md."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from reliability.figures import Figures

from lab.measure import environment
from lab.settings import CHECKOUT

STORED = CHECKOUT / "docs" / "reliability.json"
PAGE = CHECKOUT / "docs" / "reliability.md"
BEGIN, END = "<!-- figures:begin -->\n", "<!-- figures:end -->"
TITLES = {
    "kills": "Commands that are killed",
    "slow-loris": "Slow-loris",
    "few-descriptors": "More clients than descriptors",
    "killed-workers": "Workers that are killed under idempotent load",
    "flat-memory": "Memory under mixed load",
}
"""By the name of each item, in the order of the page."""

Row = dict[str, Any]


def store(item: str, figures: Figures, where: environment.Environment) -> None:
    """Put the figures in the place of those that are stored of the same subject, and make the page anew."""
    rows = json.loads(STORED.read_text(encoding="utf-8")) if STORED.exists() else []
    rows = merged(rows, [stamped(item, figures, where)])
    STORED.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write(rows)


def stamped(item: str, figures: Figures, where: environment.Environment) -> Row:
    """Return the figures with where and when they were measured."""
    return {"item": item, **figures.stored(), "environment": where, "date": f"{datetime.now(UTC):%Y-%m-%d}"}


def merged(rows: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """Return the rows with the new ones in the place of older ones of their item and subject, in the page's order.

    Older ones of their item that were judged by more or fewer checks go, too: a table's rows share their columns.
    """
    judged = {row["item"]: len(row["checks"]) for row in new}
    kept = (row for row in rows if judged.get(row["item"], len(row["checks"])) == len(row["checks"]))
    by_name = {(row["item"], row["subject"]): row for row in (*kept, *new)}
    return sorted(by_name.values(), key=lambda row: list(TITLES).index(row["item"]))


def write(rows: Sequence[Row]) -> None:
    """Put the tables into the page."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(before + BEGIN + tables(rows) + END + after, encoding="utf-8")


def tables(rows: Sequence[Row]) -> str:
    """Return the stored figures as Markdown."""
    lines: list[str] = []
    for item, title in TITLES.items():
        ours = [row for row in rows if row["item"] == item]
        if ours:
            lines += [f"## {title}", "", *_sizes(ours), "", *_checks(ours), "", *_origin(ours), ""]
    return "\n".join(lines)


def shown() -> str:
    """Return the tables that the page holds."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


def _sizes(rows: Sequence[Row]) -> Iterator[str]:
    yield from (f"- `{row['subject']}`: {row['size']}" for row in rows)


def _checks(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a table: a row a subject, a column a check, whose bound is above it where all rows share it."""
    names = [check["name"] for check in rows[0]["checks"]]
    bounds = [{row["checks"][at]["bound"] for row in rows} for at in range(len(names))]
    heads = [
        f"{name}: {next(iter(bound))}" if len(bound) == 1 else name for name, bound in zip(names, bounds, strict=True)
    ]
    yield f"| of | {' | '.join(heads)} |"
    yield "|---" * (len(names) + 1) + "|"
    for row in rows:
        cells = [_cell(check, alone=len(bound) > 1) for check, bound in zip(row["checks"], bounds, strict=True)]
        yield f"| `{row['subject']}` | {' | '.join(cells)} |"


def _cell(check: Row, *, alone: bool) -> str:
    text = f"{check['measured']} ({check['bound']})" if alone else str(check["measured"])
    return text + {True: "", None: ": left open, others had the processors"}.get(check["holds"], ": **does not hold**")


def _origin(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a line for each time and place at which some of them were measured."""
    places: dict[str, list[str]] = {}
    for row in rows:
        where = row["environment"]
        machine = f"Python {where['python']}, Linux {where['kernel']}, {where['cpus']} cores"
        text = f"{machine}, commit {where['commit']}, {row['date']}"
        places.setdefault(text, []).append(row["subject"])
    for text, subjects in places.items():
        yield f"{text}." if len(places) == 1 else f"{text}: {', '.join(subjects)}."
