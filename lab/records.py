"""Stored runs as rows: one table for all kinds of runs, for pandas, DuckDB and spreadsheets.

Each row is one figure of one thing at one time. `COLUMNS` is the schema (docs/analysis.md explains it); a change of it
is a change of `SCHEMA`. Times are in seconds and sizes in bytes, whatever a page shows.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loadtests.histogram import SHARES, Histogram
from services.options import MODELS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

SCHEMA = 1
COLUMNS: dict[str, type] = {
    "run": str,
    "kind": str,
    "started": str,
    "commit": str,
    "subject": str,
    "model": str,
    "variant": str,
    "repeat": int,
    "second": float,
    "metric": str,
    "unit": str,
    "statistic": str,
    "value": float,
}
"""Column → type."""
ALWAYS = ("run", "kind", "metric", "unit", "statistic", "value")
"""Columns that every row has; each of the others may be missing (None)."""
LOAD, EXPERIMENT, BENCHMARK, FIDELITY = "load", "experiment", "benchmark", "fidelity"
VALUE = "value"
"""The statistic of a figure that was measured; those of which only a summary was kept have its name instead."""
SUMMARY = ("median", "min", "max")
BASE_UNITS = {"ms": ("s", 1e-3), "us": ("s", 1e-6), "µs": ("s", 1e-6), "%": ("", 1e-2), "1": ("", 1.0)}
"""Unit of a stored figure → unit of a row, and what to multiply with."""
QUANTILES = SHARES | {"max": 1.0}
"""Of the response times within a second. Those of a whole repeat are what the run says."""

Row = dict[str, Any]
Summary = dict[str, Any]
"""`median`, `min`, `max`, `unit` and `n`, as a document has them."""


class NoRecordsError(Exception):
    """A document has nothing to make rows of; the text says why."""


@dataclass(frozen=True, slots=True)
class _Thing:
    """Subject of the figures of some rows: the columns that they share."""

    shared: Mapping[str, Any]

    def row(self, metric: str, value: float, unit: str, statistic: str = VALUE, **more: Any) -> Row:
        base, factor = BASE_UNITS.get(unit, (unit, 1.0))
        figure = {"metric": metric, "unit": base, "statistic": statistic, "value": float(value) * factor}
        return {**dict.fromkeys(COLUMNS), **self.shared, **more, **figure}


def rows(document: Mapping[str, Any], run: str) -> list[Row]:
    """Return the rows of a run's document; `run` is what it is called. Raises NoRecordsError."""
    makers = {LOAD: _of_load, EXPERIMENT: _of_experiment, BENCHMARK: _of_benchmark, FIDELITY: _of_fidelity}
    kind = kind_of(document)
    where = document.get("environment") or {}
    shared = {
        "run": document.get("id") or run,
        "kind": kind,
        "started": document.get("started") or document.get("begun"),
        "commit": where.get("commit"),
    }
    return list(makers[kind](document, shared))


def kind_of(document: Any) -> str:
    """Return which kind of run a document is of. Raises NoRecordsError for any other."""
    if isinstance(document, dict):
        for kind, key in ((LOAD, "repeats"), (EXPERIMENT, "arms"), (BENCHMARK, "spreads"), (FIDELITY, "peers")):
            if key in document:
                return kind
    raise NoRecordsError("is no load, experiment or benchmark with figures in it, nor a comparison with real systems")


# Loads.


def _of_load(document: Mapping[str, Any], shared: Row) -> Iterator[Row]:
    for repeat in document["repeats"]:
        about = {name: repeat.get(name) for name in ("model", "variant", "repeat")}
        thing = _Thing({**shared, "subject": document.get("name"), **about})
        yield from _of_repeat(thing, repeat)
        for entry in repeat.get("series") or ():
            yield from _of_second(thing, entry)
        yield from _of_server(thing, repeat.get("server") or {})


def _of_repeat(thing: _Thing, repeat: Mapping[str, Any]) -> Iterator[Row]:
    yield thing.row("duration", repeat["seconds"], "s")
    for name in ("requests", "failures", "no_response"):
        yield thing.row(name, repeat.get(name) or 0, "")
    for name, value in repeat["quantiles_seconds"].items():
        if value is not None:
            yield thing.row(f"latency_{name}", value, "s")


def _of_second(thing: _Thing, entry: Mapping[str, Any]) -> Iterator[Row]:
    second = float(entry["second"])
    for name in ("requests", "failures", "users"):
        if entry.get(name) is not None:
            yield thing.row(name, entry[name], "", second=second)
    times = Histogram.from_json(entry["histogram"])
    for name, share in QUANTILES.items():
        value = times.quantile(share)
        if value is not None:
            yield thing.row(f"latency_{name}", value, "s", second=second)


def _of_server(thing: _Thing, server: Mapping[str, Any]) -> Iterator[Row]:
    for name, unit in (("cpu_seconds", "s"), ("queue_max", ""), ("drops", "")):
        if isinstance(server.get(name), (int, float)):
            yield thing.row(f"server_{name}", server[name], unit)


# Experiments and benchmarks.


def _of_experiment(document: Mapping[str, Any], shared: Row) -> Iterator[Row]:
    for arm in document["arms"]:
        model = arm.get("parameters", {}).get("model")
        thing = _Thing({**shared, "subject": document["experiment"], "model": model, "variant": arm["name"]})
        trials = arm.get("trials") or ()
        for number, trial in enumerate(trials):
            yield from _of_trial(thing, trial, number)
        if not trials:
            yield from _of_summaries(thing, arm["metrics"])


def _of_trial(thing: _Thing, trial: Mapping[str, Any], number: int) -> Iterator[Row]:
    for name, (value, unit) in trial["metrics"].items():
        yield thing.row(name, value, unit, repeat=number)
    for title, points in (trial.get("series") or {}).items():
        yield from (thing.row(title, value, "", repeat=number, second=float(at)) for at, value in points)


def _of_benchmark(document: Mapping[str, Any], shared: Row) -> Iterator[Row]:
    models = {row["server"] for row in document.get("rows", ()) if row["kind"] == "model"}
    for name, summaries in benchmark_parts(document).items():
        thing = _Thing({**shared, "subject": name, "model": name if name in models else None})
        rounds = document.get("rounds", {}).get(name, {})
        yield from _of_rounds(thing, summaries, rounds)
        yield from _of_summaries(thing, {metric: each for metric, each in summaries.items() if metric not in rounds})


def _of_fidelity(document: Mapping[str, Any], shared: Row) -> Iterator[Row]:
    for row in document["rows"]:
        for side in ("model", "real"):
            model = row["model"].split()[0] if side == "model" else ""
            known = model if model in MODELS else None
            thing = _Thing({**shared, "subject": row["system"], "model": known, "variant": row[side]})
            for number, value in enumerate(row["figures"][side]):
                yield thing.row(row["signature"], value, "", repeat=number)


def _of_rounds(thing: _Thing, summaries: Mapping[str, Summary], rounds: Mapping[str, Iterable[float]]) -> Iterator[Row]:
    for name, values in rounds.items():
        for number, value in enumerate(values):
            yield thing.row(_without_unit(name), value, summaries[name]["unit"], repeat=number)


def benchmark_parts(document: Mapping[str, Any]) -> dict[str, dict[str, Summary]]:
    """Return all summaries of a benchmark, by server, and by part where a part has its own."""
    parts = dict(document["spreads"])
    if "idle_connections" in document:
        parts["idle connections"] = document["idle_connections"]
    parts |= {f"watching {name}": found for name, found in document.get("watching", {}).items()}
    return {part: {name: each for name, each in found.items() if _is_summary(each)} for part, found in parts.items()}


def _is_summary(value: object) -> bool:
    return isinstance(value, dict) and value.keys() >= {"median", "min", "max", "unit", "n"}


def _of_summaries(thing: _Thing, summaries: Mapping[str, Any]) -> Iterator[Row]:
    for name, summary in summaries.items():
        for statistic in SUMMARY:
            yield thing.row(_without_unit(name), summary[statistic], summary["unit"], statistic)


def _without_unit(name: str) -> str:
    """Return a benchmark's name for a figure without the unit in it, since a row has base units."""
    return name.removesuffix("_ms").replace("_us_", "_").replace("_ms_", "_")


# Files.


def as_csv(found: Iterable[Row]) -> str:
    """Return the rows as CSV (RFC 4180); what is missing is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(found)
    return text.getvalue()


def as_json(document: Mapping[str, Any], found: list[Row]) -> dict[str, Any]:
    """Return the rows with what is known of the run, for JSON."""
    about = {name: document[name] for name in ("command", "options", "environment") if name in document}
    return {"schema": SCHEMA, **about, "columns": list(COLUMNS), "rows": found}


def write_parquet(found: list[Row], file: Path) -> None:
    """Write the rows as Parquet, with the schema's types. Raises ModuleNotFoundError without pyarrow."""
    import pyarrow
    import pyarrow.parquet

    types = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
    fields = [pyarrow.field(name, types[kind], nullable=name not in ALWAYS) for name, kind in COLUMNS.items()]
    schema = pyarrow.schema(fields, metadata={"accept-lab schema": str(SCHEMA)})
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(found, schema), file)
