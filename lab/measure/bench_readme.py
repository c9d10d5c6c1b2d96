"""The stored benchmark as the README's table: `python -m lab.measure.bench_readme` after
`lab bench --json > docs/benchmark.json`, or `lab bench --only watching --into docs/benchmark.json` for a part alone.

Figures in the README are never typed; a test holds the two together.
"""

from __future__ import annotations

import json
from typing import Any

from lab import readme
from lab.settings import CHECKOUT

STORED = CHECKOUT / "docs" / "benchmark.json"
REFERENCE = "real-nginx"


def markdown(document: dict[str, Any]) -> str:
    """The document as lines of Markdown: a table of the servers, then what was measured besides."""
    rows = sorted(document["rows"], key=lambda row: -row["keepalive_rps"])
    reference = next((row for row in rows if row["server"] == REFERENCE), None)
    lines = [
        "| server | keep-alive, requests/s | of nginx | connection a request | of nginx | p50 ms | p99 ms | PSS MiB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        *(_row(row, reference) for row in rows),
        "",
        _environment(document),
        *_besides(document),
    ]
    return "\n".join(lines) + "\n"


def update() -> None:
    """Put the stored benchmark into the README."""
    readme.put("bench", markdown(json.loads(STORED.read_text(encoding="utf-8"))))


def _row(row: dict[str, Any], reference: dict[str, Any] | None) -> str:
    name = f"**{row['server']}**" if row["kind"] == "model" else row["server"]
    cells = [
        name,
        f"{row['keepalive_rps']:,.0f}",
        _ratio(row, reference, "keepalive_rps"),
        f"{row['connections_per_second']:,.0f}",
        _ratio(row, reference, "connections_per_second"),
        f"{row['p50_ms']:.2f}",
        f"{row['p99_ms']:.2f}",
        f"{row['pss_bytes'] / 2**20:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def _ratio(row: dict[str, Any], reference: dict[str, Any] | None, figure: str) -> str:
    return f"{row[figure] / reference[figure]:.2f}" if reference and reference[figure] else "-"


def _environment(document: dict[str, Any]) -> str:
    where = document["environment"]
    gil = "with" if where["gil"] else "without"
    return (
        f"One core for the server with one worker and metrics on, one for wrk (`-t1 -c50`); medians of interleaved "
        f"rounds. Python {where['python']} {gil} the GIL, Linux {where['kernel']}, {where['cpus']} cores, commit "
        f"{where['commit']}."
    )


def _besides(document: dict[str, Any]) -> list[str]:
    lines = []
    if "idle_connections" in document:
        idle = document["idle_connections"]
        lines.append(
            f"- {idle['connections']:,} idle keep-alive connections on `{idle['server']}` cost "
            f"{idle['pss_bytes_per_connection']['median']:,.0f} bytes of PSS each; p99 of a "
            f"50-connection load beside them is {idle['p99_ratio']['median']:.2f} × what it is without."
        )
    for name, watching in document.get("watching", {}).items():
        ratio, apart = watching["ratio"], _apart(document, "watching")
        lines.append(
            f"- Watching `{name}` costs {ratio['median']:.2f} × the server CPU a request of `--metrics off` "
            f"(median of {ratio['n']} interleaved pairs, {ratio['min']:.2f} to {ratio['max']:.2f}{apart})."
        )
    return ["", *lines] if lines else []


def _apart(document: dict[str, Any], part: str) -> str:
    """Where a part was measured at another commit than the rest."""
    where = document.get("measured_apart", {}).get(part)
    return f"; commit {where['commit']}" if where else ""


if __name__ == "__main__":
    update()
