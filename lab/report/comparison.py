"""`lab compare`: stored runs side by side, and which of their figures differ (lab/measure/difference.py says how).

The first run is what the others are compared with. One run alone is compared within itself: the two sides of an
interleaved load, the arms of an experiment, the servers of a benchmark.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab.measure.difference import LEAST_BLOCKS, LEAST_UNITS, LEVEL, MOST_BLOCKS, Difference, dependence, differences
from lab.records import NoRecordsError, kind_of
from lab.report.figures import Group, groups_of
from lab.results import ResultsError, find_run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from lab.measure.difference import Figure

SCHEMA = 1
"""Of the JSON document."""
SAME, DIFFERENT = "no difference", "difference"
UNTOLD = "not judged"
OF_THE_MACHINE = ("kernel", "cpus", "python", "gil")
"""Keys of an environment that say whether two runs were made in like places."""
MOST_RUNS = 6
HINDERED_BLOCKS = 2
"""Blocks that a run's ten are worth on a busy machine. Of 20 pairs of equal loads that were made while others took nine
tenths of the processors, three seemed to differ without this, and none with it."""


class ComparisonError(Exception):
    """These runs cannot be compared; the text says why, and what to do."""


def verdict(differs: bool | None) -> str:
    """Return the words for what was found."""
    return UNTOLD if differs is None else DIFFERENT if differs else SAME


@dataclass(frozen=True, slots=True)
class Side:
    """One run of a comparison, or one group of a run that is compared within itself."""

    name: str
    document: Mapping[str, Any]
    groups: Mapping[str, Group]
    """By the name under which the other sides have theirs."""

    @property
    def units(self) -> str:
        """Number and kind of what is repeated, "10 blocks of 2 s", as the figure with the most has it."""
        counts = {
            group.unit: max((figure.summary["n"] for figure in group.figures.values()), default=0)
            for group in self.groups.values()
        }
        return ", ".join(f"{count} {_plural(unit, count)}" for unit, count in counts.items())

    @property
    def settings(self) -> dict[str, Any]:
        """Return what was measured, and where: what explains a difference."""
        model, where = self.document.get("model"), self.document.get("environment") or {}
        shown = {"model": model} if model else {}
        return {**shown, **(self.document.get("options") or {}), "commit": where.get("commit", "unknown")}


@dataclass(frozen=True, slots=True)
class Row:
    """One metric of one group: a figure for each side, and the differences from the first."""

    group: str
    metric: str
    figures: Sequence[Figure]
    differences: Sequence[Difference]

    @property
    def verdict(self) -> str:
        """Return whether any side differs from the first."""
        found = [difference.differs for difference in self.differences]
        return verdict(True if True in found else False if False in found else None)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Sides and rows, and what a reader should know of them."""

    sides: Sequence[Side]
    rows: Sequence[Row]
    notes: Sequence[str]

    @property
    def differs(self) -> bool:
        """Return whether anything does."""
        return any(row.verdict == DIFFERENT for row in self.rows)


def of_runs(names: Sequence[str], results: Path | None = None) -> Comparison:
    """Return the comparison of stored runs, or files. Raises ComparisonError."""
    if not 1 <= len(names) <= MOST_RUNS:
        raise ComparisonError(f"{len(names)} runs: give 1 to {MOST_RUNS}")
    return of_stored([_read(name, results) for name in names])


def of_stored(runs: Sequence[Stored]) -> Comparison:
    """Return the comparison of runs that were read. Raises ComparisonError."""
    kinds = {run.name: run.kind for run in runs}
    if len(set(kinds.values())) > 1:
        raise ComparisonError(f"runs of two kinds: {', '.join(f'{name} is a {kind}' for name, kind in kinds.items())}")
    sides = _within(runs[0]) if len(runs) == 1 else _matched(runs)
    rows = list(_rows(sides))
    if all(row.verdict == UNTOLD for row in rows):
        raise ComparisonError(
            f"too little to compare ({'; '.join(f'{side.name}: {side.units}' for side in sides)}): it takes "
            f"{LEAST_UNITS} repeats or trials of each, or one load of {LEAST_BLOCKS + 2} s or more: `lab load "
            "--repeat 5`, or an experiment's full form"
        )
    return Comparison(sides, rows, list(_notes(sides)))


@dataclass(frozen=True, slots=True)
class Stored:
    """A run that was read: the name under which it was asked for, its document, and the groups that are compared."""

    name: str
    document: Mapping[str, Any]
    kind: str
    groups: Sequence[Group]


def stored_run(name: str, document: Mapping[str, Any], group: str = "") -> Stored:
    """Return a run with all of its groups, or only the one named. Raises ComparisonError."""
    try:
        kind, groups = kind_of(document), groups_of(document)
    except NoRecordsError as error:
        raise ComparisonError(f"{name} {error}") from error
    chosen = [each for each in groups if each.name == group] if group else groups
    if not chosen:
        raise ComparisonError(f"{name} has no {group!r}; it has {', '.join(each.name for each in groups)}")
    return Stored(f"{name}:{group}" if group else name, document, kind, chosen)


def _read(asked: str, results: Path | None) -> Stored:
    """Return a run by its name, `RUN` or `RUN:GROUP`."""
    name, _, group = asked.partition(":")
    try:
        found, document = find_run(name, results)
    except ResultsError as error:
        raise ComparisonError(str(error)) from error
    return stored_run(found, document, group)


def _within(run: Stored) -> list[Side]:
    """Return a side for each group of one run."""
    if len(run.groups) < 2:
        raise ComparisonError(f"{run.name} has nothing within it to compare: name another run, too")
    return [Side(group.name, run.document, {"": group}) for group in run.groups]


def _matched(runs: Sequence[Stored]) -> list[Side]:
    """Return a side for each run, with the groups that all of them have; a run's only group goes with another's."""
    if all(len(run.groups) == 1 for run in runs):
        return [Side(run.name, run.document, {"": run.groups[0]}) for run in runs]
    by_name = [{group.name: group for group in run.groups} for run in runs]
    common = [name for name in by_name[0] if all(name in groups for groups in by_name)]
    if not common:
        raise ComparisonError(f"nothing to compare: no other run has any of {', '.join(by_name[0])}")
    return [
        Side(run.name, run.document, {name: groups[name] for name in common})
        for run, groups in zip(runs, by_name, strict=True)
    ]


def _rows(sides: Sequence[Side]) -> Iterator[Row]:
    """Yield a row for each metric that all sides have, all of them under one error level."""
    first, others = sides[0], sides[1:]
    keys = [
        (group, metric)
        for group, found in first.groups.items()
        for metric in found.figures
        if all(metric in side.groups[group].figures for side in others)
    ]
    figures = {key: [side.groups[key[0]].figures[key[1]] for side in sides] for key in keys}
    pairs = [(found[0], other) for found in figures.values() for other in found[1:]]
    compared = iter(differences(pairs, _dependence(sides)))
    for (group, metric), found in figures.items():
        yield Row(group, metric, found, [next(compared) for _ in others])


def _dependence(sides: Sequence[Side]) -> float:
    """Return by how much blocks that follow one another enlarge the variance; 1 where units are far apart."""
    groups = [group for side in sides for group in side.groups.values() if group.depends]
    enlarged = dependence([[figure.values for figure in group.figures.values() if figure.judged] for group in groups])
    if not any(group.is_hindered for group in groups):
        return enlarged
    # What others take wanders more slowly than blocks follow one another: the whole run counts as no more than two.
    return max(enlarged, MOST_BLOCKS / HINDERED_BLOCKS)


def _plural(unit: str, count: int) -> str:
    word, _, rest = unit.partition(" ")
    return f"{word}{'' if count == 1 else 's'}{f' {rest}' if rest else ''}"


def _notes(sides: Sequence[Side]) -> Iterator[str]:
    """Yield what may explain a difference beside what was meant to differ, and what is not judged."""
    places = [side.document.get("environment") or {} for side in sides]
    unlike = [key for key in OF_THE_MACHINE if len({str(place.get(key)) for place in places}) > 1]
    if unlike:
        yield f"the runs were not made in the same place: {', '.join(unlike)} differ"
    efforts = {side.document["effort"] for side in sides if side.document.get("effort")}
    if len(efforts) > 1:
        yield "a quick run beside a full one: their trials are not the same"
    groups = [group for side in sides for group in side.groups.values()]
    if any(group.is_hindered for group in groups):
        yield (
            f"other programs took {max(group.taken for group in groups):.0%} of the processors, so that one run may "
            "differ from the next for that alone: intervals are wider; --interleave --repeat 5 makes them narrow"
        )
    if any(group.depends for group in groups):
        yield (
            "within one run a difference below 5 % counts as none, since nothing in it says how one run differs from "
            "the next: `lab load A B --interleave --repeat 5` does"
        )


# What it is printed as.


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return the document that `lab compare --json` prints."""
    return {
        "schema": SCHEMA,
        "level": LEVEL,
        "differs": comparison.differs,
        "runs": [{"name": side.name, "units": side.units, "settings": side.settings} for side in comparison.sides],
        "metrics": [_row_as_json(row, comparison.sides) for row in comparison.rows],
        "notes": list(comparison.notes),
    }


def _row_as_json(row: Row, sides: Sequence[Side]) -> dict[str, Any]:
    return {
        "group": row.group,
        "metric": row.metric,
        "verdict": row.verdict,
        "figures": [figure.summary for figure in row.figures],
        "differences": [
            {
                "run": side.name,
                "scale": difference.scale,
                "value": _finite(difference.value),
                "low": _finite(difference.low),
                "high": _finite(difference.high),
                "differs": difference.differs,
            }
            for side, difference in zip(sides[1:], row.differences, strict=True)
        ],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
