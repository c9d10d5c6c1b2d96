"""The benchmark's document as tables for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from lab.measure.summary import Summary


def tables(document: dict[str, Any]) -> list[Table]:
    """The document for a terminal."""
    shown = []
    if document["rows"]:
        shown.append(_rows_table(document))
    if "idle_connections" in document:
        shown.append(_idle_table(document["idle_connections"]))
    if "watching" in document:
        shown.append(_watching_table(document["watching"]))
    if document["missing"]:
        shown.append(_missing_table(document["missing"]))
    return shown


def _rows_table(document: dict[str, Any]) -> Table:
    where = document["environment"]
    title = f"One core each for server and wrk; Python {where['python']}, Linux {where['kernel']}, {where['commit']}"
    compared = document.get("compared", ("nginx", "node"))
    ratios = [f"{name} ÷" for name in compared]
    table = _table(
        title, "server", "CPU µs", *ratios, "same: CPU µs", *ratios,
        "1/s", "same: 1/s", "connections 1/s", "p50 ms", "p99 ms", "PSS MiB",
    )  # fmt: skip
    table.caption = "CPU is the server's a request, each different; same: the same request again and again"
    if any(_not_busy(entry) for entry in document["rows"]):
        table.caption += "; *: its core was less than 95 % busy"
    for entry in sorted(document["rows"], key=lambda entry: entry["cpu_us_per_request"]):
        table.add_row(
            f"{entry['server']} {entry['version'] or ''}".strip(),
            _with_spread(document, entry, "cpu_us_per_request", ".1f") + ("*" if entry["rounds_not_busy"] else ""),
            *(_ratio(entry[f"cpu_ratio_to_{name}"]) for name in compared),
            f"{entry['fixed_cpu_us_per_request']:.1f}{'*' if entry['fixed_rounds_not_busy'] else ''}",
            *(_ratio(entry[f"fixed_cpu_ratio_to_{name}"]) for name in compared),
            _with_spread(document, entry, "keepalive_rps"),
            f"{entry['fixed_rps']:,.0f}",
            f"{entry['connections_per_second']:,.0f}",
            f"{entry['p50_ms']:.2f}",
            f"{entry['p99_ms']:.2f}",
            f"{entry['pss_bytes'] / 2**20:.1f}",
        )
    return table


def _not_busy(entry: dict[str, Any]) -> bool:
    return bool(entry["rounds_not_busy"] or entry["fixed_rounds_not_busy"])


def _ratio(ratio: Summary | None) -> str:
    return f"{ratio['median']:.2f}" if ratio else "-"


def _with_spread(document: dict[str, Any], entry: dict[str, Any], figure: str, form: str = ",.0f") -> str:
    """The median, and half the spread in percent of it where there was more than one round."""
    summary = document.get("spreads", {}).get(entry["server"], {}).get(figure)
    if not summary or summary["n"] < 2:
        return format(entry[figure], form)
    return f"{entry[figure]:{form}} ± {(summary['max'] - summary['min']) / 2 / entry[figure]:.0%}"


def _idle_table(idle: dict[str, Any]) -> Table:
    table = _table(f"{idle['connections']:,} idle connections on {idle['server']}", "", "median", "least", "greatest")
    for figure, name in (
        ("pss_bytes_per_connection", "PSS a connection, B"),
        ("kernel_bytes_per_connection", "kernel a connection, B"),
        ("p99_ms_without", "p99 without them, ms"),
        ("p99_ms_with", "p99 with them, ms"),
        ("p99_ratio", "ratio"),
    ):
        if idle[figure] is None:
            table.add_row(name, "only root may read it")
        else:
            table.add_row(name, *_three(idle[figure], ".0f" if "bytes" in figure else ".2f"))
    return table


def _watching_table(watched: dict[str, Any]) -> Table:
    pairs = max(figures["pairs"] for figures in watched.values())
    headings = ("server", "off µs", "on µs", "admin µs", "on / off", "least", "greatest")
    table = _table(
        f"Server processor time a request, watched (on) and without counters (off), {pairs} pairs", *headings
    )
    for name, figures in watched.items():
        parts = ("cpu_us_per_request_off", "cpu_us_per_request_on", "admin_cpu_us_per_request")
        table.add_row(name, *(f"{figures[part]['median']:.2f}" for part in parts), *_three(figures["ratio"], ".3f"))
    return table


def _missing_table(missing: list[dict[str, str]]) -> Table:
    table = _table("Not measured, for they are not installed", "server", "how to get it")
    for entry in missing:
        table.add_row(entry["server"], entry["how_to_get"])
    return table


def _three(summary: Summary, form: str) -> tuple[str, str, str]:
    return (format(summary["median"], form), format(summary["min"], form), format(summary["max"], form))


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first)
    for heading in others:
        table.add_column(heading, justify="right" if heading else "left")
    return table
