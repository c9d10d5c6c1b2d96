"""Figures of a stored run that a comparison reads: of a load, an experiment or a benchmark, one form for all.

A run has *groups* of them: the arms of an experiment, the servers of a benchmark, the two sides of an interleaved load.
Each figure has a value for each unit (lab/measure/difference.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from lab.harness.verdict import BUSY_MACHINE
from lab.measure.difference import LEAST_BLOCKS, LEAST_UNITS, Figure, block_bounds, figure_of
from lab.records import BENCHMARK, EXPERIMENT, FIDELITY, LOAD, QUANTILES, benchmark_parts, kind_of
from loadtests.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lab.measure.summary import Summary

AS_DUE = ("p50", "p99")
"""Quantiles that are compared of a paced load also from when each request was due."""
HISTOGRAM_ERROR = 1 / 64
"""Of a quantile that was read from a histogram's buckets: a smaller difference may be one of buckets."""
SINGLE_RUN_ERROR = 0.05
"""Share by which one run may differ from the next of the same thing, which nothing within one run tells. Of 40 loads of
ten seconds, each compared with the next, two pairs differed by more, and steadily so."""
FAILED_ERROR = 0.1
"""Percentage points of failed requests below which nothing is called different."""
OF_THE_MEASUREMENT = frozenset({"generator cpu", "taken by others", "Little's law"})
"""Metrics of an experiment that say how well it could be measured, not what was."""


@dataclass(frozen=True, slots=True)
class Group:
    """Figures of one thing that was measured, and what repeats in them."""

    name: str
    unit: str
    """Unit that a value is of: "repeat", "block of 2 s", "trial", "round"."""
    figures: Mapping[str, Figure]
    depends: bool = False
    """True if each unit follows closely on the one before, so that what disturbed one may disturb the next."""
    latencies: Histogram | None = None
    """Response times of all repeats together, where there are some."""
    taken: float = 0.0
    """Share of the processors that others took meanwhile, where there is but one run to show what that did."""

    @property
    def is_hindered(self) -> bool:
        """Return whether that was so much that the next run may be another."""
        return self.taken > BUSY_MACHINE


def groups_of(document: Mapping[str, Any]) -> list[Group]:
    """Return the groups of a run's document, in its order. Raises NoRecordsError for one that has none."""
    makers = {LOAD: _of_load, EXPERIMENT: _of_experiment, BENCHMARK: _of_benchmark, FIDELITY: _of_fidelity}
    return makers[kind_of(document)](document)


# Experiments.


def _of_experiment(document: Mapping[str, Any]) -> list[Group]:
    return [
        Group(arm["name"], "trial", {name: _of_metric(arm, name) for name in arm["metrics"]})
        for arm in document["arms"]
    ]


def _of_metric(arm: Mapping[str, Any], name: str) -> Figure:
    """Return a metric's figure: of its trials, or of its summary where the trials were not kept (docs/experiments)."""
    judged, summary = name not in OF_THE_MEASUREMENT, arm["metrics"][name]
    values = [trial["metrics"][name][0] for trial in arm.get("trials", ()) if name in trial["metrics"]]
    if not values:
        return Figure(summary, judged=judged)
    return figure_of(values, summary["unit"], judged=judged)


# Models beside real systems.


def _of_fidelity(document: Mapping[str, Any]) -> list[Group]:
    """Return a group for each side: from run to run no signature should change."""
    return [
        Group(
            side,
            "repeat",
            {
                f"{row['signature']} ({row['model']} | {row['real']})": figure_of(row["figures"][side], "")
                for row in document["rows"]
            },
        )
        for side in ("model", "real")
    ]


# Benchmarks.


def _of_benchmark(document: Mapping[str, Any]) -> list[Group]:
    rounds = document.get("rounds", {})
    return [
        Group(
            part,
            "round",
            {
                name: _of_rounds(cast("Summary", summary), rounds.get(part, {}).get(name))
                for name, summary in summaries.items()
            },
        )
        for part, summaries in benchmark_parts(document).items()
    ]


def _of_rounds(summary: Summary, values: Sequence[float] | None) -> Figure:
    """Return a figure of its rounds, or of its summary in a document that did not keep them."""
    return figure_of(values, summary["unit"]) if values else Figure(summary)


# Loads.


def _of_load(document: Mapping[str, Any]) -> list[Group]:
    """Return a group for each side of an interleaved load, or the one there is."""
    sides: dict[str, list[Mapping[str, Any]]] = {}
    for repeat in document["repeats"]:
        variant = repeat.get("variant")
        sides.setdefault(f"{variant} {repeat['model']}" if variant else repeat["model"], []).append(repeat)
    return [_of_repeats(name, repeats) for name, repeats in sides.items()]


def _of_repeats(name: str, repeats: Sequence[Mapping[str, Any]]) -> Group:
    latencies = _together(repeat["histogram"] for repeat in repeats)
    if len(repeats) >= LEAST_UNITS:
        figures = _figures([_of_repeat(repeat) for repeat in repeats], HISTOGRAM_ERROR, LEAST_UNITS)
        return Group(name, "repeat", figures, latencies=latencies)
    blocks = [block for repeat in repeats for block in _blocks(repeat)]
    length = blocks[0]["seconds"] if blocks else 0
    measured = [_of_block(block) for block in blocks]
    fewest = min((block["requests"] for block in blocks), default=0)
    # With less than one request beyond it, a quantile of a block is only the greatest of its values.
    unjudged = [name for name, share in QUANTILES.items() if (1 - share) * fewest < 1]
    taken = max(repeat.get("others_cpu_ratio") or 0.0 for repeat in repeats)
    figures = _figures(measured, SINGLE_RUN_ERROR, LEAST_BLOCKS, unjudged)
    return Group(name, f"block of {length} s", figures, depends=True, latencies=latencies, taken=taken)


Measured = dict[str, tuple[float, str]]
"""Metric → value and unit, of one unit."""


def _of_repeat(repeat: Mapping[str, Any]) -> Measured:
    quantiles = repeat["quantiles_seconds"]
    found = _usual(repeat["requests"], repeat["failures"], repeat["seconds"])
    found |= _mean(Histogram.from_json(repeat["histogram"]))
    found |= {name: (quantiles[name] * 1000, "ms") for name in QUANTILES if quantiles.get(name) is not None}
    if repeat.get("corrected_histogram"):
        due = Histogram.from_json(repeat["corrected_histogram"])
        found |= {f"{name} as due": ((due.quantile(QUANTILES[name]) or 0.0) * 1000, "ms") for name in AS_DUE}
    found["no response"] = (repeat.get("no_response", 0), "")
    server = repeat.get("server") or {}
    if server.get("cpu_seconds") is not None and repeat["requests"]:
        found["server's CPU a request"] = (server["cpu_seconds"] / repeat["requests"] * 1e6, "µs")
    for name, key in (("longest accept queue", "queue_max"), ("dropped connections", "drops")):
        if isinstance(server.get(key), (int, float)):
            found[name] = (server[key], "")
    return found


def _of_block(block: Mapping[str, Any]) -> Measured:
    found = _usual(block["requests"], block["failures"], block["seconds"])
    histogram: Histogram = block["histogram"]
    found |= _mean(histogram)
    for name, share in QUANTILES.items():
        value = histogram.quantile(share)
        if value is not None:
            found[name] = (value * 1000, "ms")
    return found


def _usual(requests: int, failures: int, seconds: float) -> Measured:
    return {
        "requests": (requests / seconds if seconds else math.nan, "1/s"),
        "failed": (100 * failures / requests if requests else 0.0, "%"),
    }


def _mean(times: Histogram) -> Measured:
    """Return the mean: where requests wait for one another, times have two peaks, and the median is of neither."""
    mean = times.mean_seconds
    return {} if mean is None else {"mean": (mean * 1000, "ms")}


def _figures(
    units: Sequence[Measured], least: float, least_units: int, unjudged: Iterable[str] = ()
) -> dict[str, Figure]:
    figures = {}
    for name in dict.fromkeys(name for unit in units for name in unit):
        values = [unit[name][0] for unit in units if name in unit]
        unit_name = next(unit[name][1] for unit in units if name in unit)
        figures[name] = figure_of(
            values,
            unit_name,
            least_units=least_units,
            least=least,
            least_absolute=FAILED_ERROR if name == "failed" else 0.0,
            judged=name not in unjudged,
        )
    return figures


def _blocks(repeat: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the blocks of the seconds in which all users were there; those in which they come are another load."""
    seconds = {entry["second"]: entry for entry in repeat["series"]}
    most = max((entry.get("users") or 0 for entry in seconds.values()), default=0)
    steady = [second for second, entry in seconds.items() if (entry.get("users") or 0) == most]
    if not steady:
        return []
    # Users are counted as a second begins; the first one is not whole, and the last may not be.
    begin, end = max(1, min(steady)), min(max(steady) + 1, math.floor(repeat["seconds"]))
    bounds = block_bounds(max(0, end - begin))
    return [_block([seconds.get(begin + at) for at in range(first, last)]) for first, last in bounds]


def _block(entries: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """Return the sums of some seconds; one that is missing had no response."""
    there = [entry for entry in entries if entry is not None]
    return {
        "seconds": len(entries),
        "requests": sum(entry["requests"] for entry in there),
        "failures": sum(entry["failures"] for entry in there),
        "histogram": _together(entry["histogram"] for entry in there),
    }


def _together(documents: Iterable[Any]) -> Histogram:
    histogram = Histogram()
    for document in documents:
        histogram.add(Histogram.from_json(document))
    return histogram
