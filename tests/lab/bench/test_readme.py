"""The README's benchmark is the stored one."""

from __future__ import annotations

import json

import pytest

from lab import readme
from lab.bench import readme as bench_readme

DOCUMENT = {
    "environment": {"kernel": "6.1", "cpus": 2, "python": "3.13.0", "gil": True, "commit": "abc"},
    "rows": [
        {"server": name, "kind": kind, "keepalive_rps": rate, "connections_per_second": rate / 10, "p50_ms": 1.0,
         "p99_ms": 2.0, "pss_bytes": 2**20, "ratio_to_nginx": None}
        for name, kind, rate in (("nodejs", "model", 50_000.0), ("real-nginx", "peer", 100_000.0))
    ],
    "missing": [],
}  # fmt: skip


RATIO = {"median": 0.5, "min": 0.45, "max": 0.6, "unit": "1", "n": 7}
PROCESSOR_TIME = {
    "version": None, "cpu_us_per_request": 20.0, "cpu_ratio_to_nginx": RATIO, "cpu_ratio_to_node": None,
    "fixed_cpu_us_per_request": 15.5, "fixed_cpu_ratio_to_nginx": RATIO, "fixed_cpu_ratio_to_node": None,
    "fixed_rps": 60_000.0, "rounds_not_busy": 0, "fixed_rounds_not_busy": 2,
}  # fmt: skip


def test_markdown_gives_processor_time_and_ratios_of_both_loads() -> None:
    rows = [
        {**DOCUMENT["rows"][0], **PROCESSOR_TIME},
        {**DOCUMENT["rows"][1], **PROCESSOR_TIME, "version": "1.22.1", "cpu_us_per_request": 10.0},
    ]
    text = bench_readme.markdown({**DOCUMENT, "rows": rows, "wrk": "4.1.0"})
    ratio = "0.50 (0.45–0.60) | -"
    assert f"| **nodejs** | 20.0 | {ratio} | 15.5† | {ratio} | 50,000 | 60,000 | 5,000 | 1.00 | 2.00 | 1.0 |" in text
    assert text.index("| real-nginx") < text.index("| **nodejs**")
    assert "Versions: real-nginx 1.22.1, wrk 4.1.0." in text
    assert "† The server had less than 95 % of its core" in text


def test_markdown_of_a_document_without_processor_time_says_not_measured() -> None:
    text = bench_readme.markdown(DOCUMENT)
    assert "| **nodejs** | - | - | - | - | - | - | 50,000 | - | 5,000 | 1.00 | 2.00 | 1.0 |" in text
    assert text.index("| real-nginx") < text.index("| **nodejs**")
    assert "with the GIL" in text
    assert "differs" not in text


def test_markdown_says_what_an_idle_connection_takes_in_the_kernel() -> None:
    idle = {
        "server": "nodejs", "connections": 10_000, "pss_bytes_per_connection": RATIO, "p99_ratio": RATIO,
        "kernel_bytes_per_connection": {**RATIO, "median": 3776.4}, "kernel_bytes_by_object": {"filp": 192, "TCP": 2368},
    }  # fmt: skip
    text = bench_readme.markdown({**DOCUMENT, "idle_connections": idle})
    assert "the server's end takes 3,776 bytes in the kernel (TCP 2,368, filp 192)" in text
    unknown = {**idle, "kernel_bytes_per_connection": None}
    assert "kernel's part was not measured" in bench_readme.markdown({**DOCUMENT, "idle_connections": unknown})


def test_readme_shows_the_stored_benchmark() -> None:
    if not bench_readme.STORED.exists():
        pytest.fail("docs/benchmark.json is missing: `lab bench --json > docs/benchmark.json`")
    stored = json.loads(bench_readme.STORED.read_text(encoding="utf-8"))
    assert readme.block("bench") == bench_readme.markdown(stored)
