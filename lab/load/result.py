"""Result of a load, as Locust measured it: a table, as a part of a run's document, and as an exit code."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from lab.measure.latencies import HEADINGS, quantiles_ms, row_ms
from loadtests.histogram import SHARES, Histogram

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import Console

SATURATED = 0.9
"""Share of a core above which the generator rather than the server decides the figures."""
GOOD, FAILURES, SATURATED_EXIT = 0, 1, 3
"""Exit codes."""
AS_DUE = ", as due"
OMISSION = (
    "“as due” counts from when a request was due at its pace, and those that were never sent because an earlier one "
    "took so long: the other row hides them (coordinated omission)."
)


@dataclass(slots=True)
class Repeat:
    """One Locust that came to its end: its own result, its exit code, and what the server did meanwhile."""

    number: int
    model: str
    variant: str | None
    result: dict[str, Any]
    code: int
    server: dict[str, Any] = field(default_factory=dict)
    others: float = 0.0
    """Share of the processors that other programs had."""


def busiest(result: dict[str, Any]) -> float:
    """The share of a core that the busiest generator process used."""
    return max(result["cpu"].values(), default=0.0)


def failures(result: dict[str, Any]) -> int:
    """Return how many requests and connects failed, those without a response included."""
    failed = sum(int(count) for *_, count in result["failures"] + result["connect_failures"])
    return failed + no_response(result)


def no_response(result: dict[str, Any]) -> int:
    """Return how many requests had no response at the end."""
    return sum(int(count) for _, count in result.get("no_response", ()))


def nothing_ended(result: dict[str, Any]) -> bool:
    """Return whether no request and no connect came to its end: a load that did nothing has shown nothing."""
    return not any(histogram.count for _, histogram in _histograms(result))


def exit_code(repeats: Sequence[Repeat]) -> int:
    """Return the exit code of all repeats together."""
    if any(repeat.code or failures(repeat.result) or nothing_ended(repeat.result) for repeat in repeats):
        return FAILURES
    return SATURATED_EXIT if any(busiest(repeat.result) > SATURATED for repeat in repeats) else GOOD


def described(repeat: Repeat) -> dict[str, Any]:
    """Return a repeat as a run's document has it."""
    times, corrected = (_together(repeat.result.get(kind, ())) for kind in ("responses", "intended"))
    return {
        "repeat": repeat.number,
        "model": repeat.model,
        "variant": repeat.variant,
        "seconds": repeat.result["seconds"],
        "requests": times.count,
        "failures": failures(repeat.result),
        "no_response": no_response(repeat.result),
        "errors": [[kind, error, count] for kind in ("failures", "connect_failures")
                   for _, error, count in repeat.result[kind] if count],
        "generator_cpu_ratio": busiest(repeat.result),
        "others_cpu_ratio": repeat.others,
        "quantiles_seconds": {
            **{name: times.quantile(share) for name, share in SHARES.items()},
            "max": times.max_seconds if times.count else None,
        },
        "histogram": times.to_json(),
        "corrected_histogram": corrected.to_json() if corrected.count else None,
        "rows": _rows(repeat.result),
        "series": _series(repeat.result),
        "server": repeat.server,
    }  # fmt: skip


def _together(stored: Iterable[Sequence[Any]]) -> Histogram:
    """Return the histograms of all kinds of requests in one."""
    whole = Histogram()
    for *_, histogram in stored:
        whole.add(Histogram.from_json(histogram))
    return whole


def _series(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every second of the run, those in which nothing ended too."""
    found = {int(second): stored for second, stored in result["series"]}
    series, users = [], 0
    for second in range(max((*found, int(result["seconds"]) - 1), default=-1) + 1):
        failed, now, histogram = found.get(second, (0, users, Histogram().to_json()))
        users = now or users
        series.append({"second": second, "requests": histogram["count"], "failures": failed, "users": users,
                       "histogram": histogram})  # fmt: skip
    return series


def report(result: dict[str, Any], console: Console) -> None:
    """Print what Locust measured, connects apart from requests."""
    target = result["target"]
    title = f"Load on {target['model']} ({target['host']}:{target['port']}), {result['seconds']:.1f} s"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("ms", "number", "a second", "mean", *HEADINGS):
        table.add_column(heading, justify="left" if heading == "ms" else "right")
    for name, histogram in _histograms(result):
        _add_row(table, name, histogram, result["seconds"])
    console.print(table)
    if result.get("intended"):
        console.print(OMISSION, highlight=False)
    for what, rows in (("failed", result["failures"]), ("could not connect", result["connect_failures"])):
        for _, error, count in rows:
            if count:
                console.print(f"{count} {what}: {error}", style="red", highlight=False)
    if no_response(result):
        console.print(
            f"{no_response(result)} requests had no response at the end: the server is stuck, or slower than "
            "Locust's --stop-timeout",
            style="red", highlight=False,
        )  # fmt: skip
    if nothing_ended(result):
        console.print("no request and no connect ended: this load has shown nothing", style="red", highlight=False)
    console.print(f"generator: {busiest(result):.0%} of a core", highlight=False)
    if busiest(result) > SATURATED:
        console.print(
            "The generator was saturated: these figures say how fast Locust is, not the server. "
            "Use fewer users, --think, or --processes.",
            style="yellow",
        )


def _histograms(result: dict[str, Any]) -> Iterator[tuple[str, Histogram]]:
    """Yield what was measured, by the name of its row; connects only where there were any."""
    intended = {(method, name): stored for _, method, name, stored in result.get("intended", ())}
    for _, method, name, stored in result["responses"]:
        yield f"{method} {name}", Histogram.from_json(stored)
        if (method, name) in intended:
            yield f"{method} {name}{AS_DUE}", Histogram.from_json(intended[method, name])
    for _, stored in result["connects"]:
        if stored["count"]:
            yield "connect", Histogram.from_json(stored)


def _rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the table's rows: times in ms, histograms included."""
    seconds = result["seconds"]
    return [
        {
            "name": name,
            "count": histogram.count,
            "per_second": histogram.count / seconds if seconds > 0 else None,
            "mean_ms": None if histogram.mean_seconds is None else 1000 * histogram.mean_seconds,
            "quantiles_ms": quantiles_ms(histogram),
            "histogram": histogram.to_json(),
        }
        for name, histogram in _histograms(result)
    ]


def _add_row(table: Table, name: str, histogram: Histogram, seconds: float) -> None:
    a_second = f"{histogram.count / seconds:,.0f}" if seconds > 0 else "-"
    table.add_row(name, f"{histogram.count:,}", a_second, *row_ms(histogram))
