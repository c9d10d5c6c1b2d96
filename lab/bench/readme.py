"""The stored benchmark as the README's table: `python -m lab.bench.readme` after
`lab bench --json > docs/benchmark.json`, or `lab bench --only watching --into docs/benchmark.json` for a part alone.

Figures in the README are never typed; a test holds the two together.
"""

from __future__ import annotations

import json
from typing import Any

from lab import readme
from lab.settings import CHECKOUT

STORED = CHECKOUT / "docs" / "benchmark.json"
COLUMNS = (
    "server",
    "CPU µs a request",
    "nginx ÷ it",
    "node ÷ it",
    "same request again and again: CPU µs",
    "nginx ÷ it",
    "node ÷ it",
    "requests/s",
    "same request, requests/s",
    "connection a request, requests/s",
    "p50 ms",
    "p99 ms",
    "PSS MiB",
)
EXPLAINED = (
    "Every request differs, but for the columns of the same request again and again. CPU is the server's, user and "
    "kernel, of all processes that serve, while they keep their core busy. A ratio is of two loads right after each "
    "other (median, least–greatest): above 1 the server takes less processor time than nginx or node."
)
NOT_MEASURED = "-"
NOT_BUSY = "†"
"""Behind a figure of a server whose core was not busy in every round."""


def markdown(document: dict[str, Any]) -> str:
    """The document as lines of Markdown: a table of the servers, then what was measured besides."""
    lines = [
        f"| {' | '.join(COLUMNS)} |",
        f"|---|{'---:|' * (len(COLUMNS) - 1)}",
        *map(_row, sorted(document["rows"], key=cheapest_first)),
        "",
        *_conditions(document),
        *_besides(document),
    ]
    return "\n".join(lines) + "\n"


def cheapest_first(row: dict[str, Any]) -> tuple[float, float]:
    """Order of rows: by processor time a request, or by rate in a document without it."""
    return row.get("cpu_us_per_request", 0.0), -row["keepalive_rps"]


def update() -> None:
    """Put the stored benchmark into the README."""
    readme.put("bench", markdown(json.loads(STORED.read_text(encoding="utf-8"))))


def _row(row: dict[str, Any]) -> str:
    cells = [
        f"**{row['server']}**" if row["kind"] == "model" else row["server"],
        *_processor_time(row, "", "rounds_not_busy"),
        *_processor_time(row, "fixed_", "fixed_rounds_not_busy"),
        f"{row['keepalive_rps']:,.0f}",
        _figure(row, "fixed_rps", ",.0f"),
        f"{row['connections_per_second']:,.0f}",
        f"{row['p50_ms']:.2f}",
        f"{row['p99_ms']:.2f}",
        f"{row['pss_bytes'] / 2**20:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def _processor_time(row: dict[str, Any], load: str, not_busy: str) -> list[str]:
    """Three cells of one load: processor time a request, and its ratios to nginx and node."""
    mark = NOT_BUSY if row.get(not_busy) else ""
    figure = _figure(row, f"{load}cpu_us_per_request", ".1f")
    return [figure + mark, *(_ratio(row.get(f"{load}cpu_ratio_to_{name}")) for name in ("nginx", "node"))]


def _figure(row: dict[str, Any], name: str, form: str) -> str:
    # Documents of before 2026-12 have no processor time.
    return format(row[name], form) if name in row else NOT_MEASURED


def _ratio(ratio: dict[str, Any] | None) -> str:
    return f"{ratio['median']:.2f} ({ratio['min']:.2f}–{ratio['max']:.2f})" if ratio else NOT_MEASURED


def _conditions(document: dict[str, Any]) -> list[str]:
    where = document["environment"]
    gil = "with" if where["gil"] else "without"
    lines = [
        f"One core for the server with one worker and metrics on, one for wrk (`-t1 -c50`); medians of interleaved "
        f"rounds. Python {where['python']} {gil} the GIL, Linux {where['kernel']}, {where['cpus']} cores, commit "
        f"{where['commit']}."
    ]
    if "wrk" in document:
        versions = [f"{row['server']} {row['version']}" for row in document["rows"] if row["version"]]
        wrk = f"wrk {document['wrk']}"
        lines += ["", f"{EXPLAINED} Versions: {', '.join([*versions, wrk])}."]
    if any(row.get("rounds_not_busy") or row.get("fixed_rounds_not_busy") for row in document["rows"]):
        lines += [
            "",
            f"{NOT_BUSY} The server had less than 95 % of its core in some round, so the figure is uncertain.",
        ]
    return lines


def _besides(document: dict[str, Any]) -> list[str]:
    lines = []
    if "idle_connections" in document:
        idle = document["idle_connections"]
        lines.append(
            f"- {idle['connections']:,} idle keep-alive connections on `{idle['server']}` cost "
            f"{idle['pss_bytes_per_connection']['median']:,.0f} bytes of PSS each{_in_the_kernel(idle)}; p99 of a "
            f"50-connection load beside them is {idle['p99_ratio']['median']:.2f} × what it is without."
        )
    for name, watching in document.get("watching", {}).items():
        ratio, apart = watching["ratio"], _apart(document, "watching")
        off = "the same server without counters" if "off_is" in watching else "`--metrics off`"
        lines.append(
            f"- Watching `{name}` costs {ratio['median']:.2f} × the server CPU a request of {off} "
            f"(median of {ratio['n']} interleaved pairs, {ratio['min']:.2f} to {ratio['max']:.2f}{apart})."
        )
    return ["", *lines] if lines else []


def _in_the_kernel(idle: dict[str, Any]) -> str:
    kernel = idle.get("kernel_bytes_per_connection")
    if not kernel:
        return " in user space (the kernel's part was not measured)"
    objects = idle["kernel_bytes_by_object"].items()
    parts = ", ".join(f"{name} {size:,.0f}" for name, size in sorted(objects, key=lambda entry: -entry[1]))
    return f" in user space, and the server's end takes {kernel['median']:,.0f} bytes in the kernel ({parts})"


def _apart(document: dict[str, Any], part: str) -> str:
    """Return the commit of a part that was measured at another than the rest."""
    where = document.get("measured_apart", {}).get(part)
    return f"; commit {where['commit']}" if where else ""


if __name__ == "__main__":
    update()
