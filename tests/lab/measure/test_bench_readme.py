"""The README's benchmark is the stored one."""

from __future__ import annotations

import json

import pytest

from lab import readme
from lab.measure import bench_readme

DOCUMENT = {
    "environment": {"kernel": "6.1", "cpus": 2, "python": "3.13.0", "gil": True, "commit": "abc"},
    "rows": [
        {"server": name, "kind": kind, "keepalive_rps": rate, "connections_per_second": rate / 10, "p50_ms": 1.0,
         "p99_ms": 2.0, "pss_bytes": 2**20, "ratio_to_nginx": None}
        for name, kind, rate in (("nodejs", "model", 50_000.0), ("real-nginx", "peer", 100_000.0))
    ],
    "missing": [],
}  # fmt: skip


def test_markdown_gives_every_server_and_its_share_of_nginx() -> None:
    text = bench_readme.markdown(DOCUMENT)
    assert "| **nodejs** | 50,000 | 0.50 | 5,000 | 0.50 | 1.00 | 2.00 | 1.0 |" in text
    assert text.index("real-nginx") < text.index("nodejs")
    assert "with the GIL" in text


def test_readme_shows_the_stored_benchmark() -> None:
    if not bench_readme.STORED.exists():
        pytest.fail("docs/benchmark.json is missing: `lab bench --json > docs/benchmark.json`")
    stored = json.loads(bench_readme.STORED.read_text(encoding="utf-8"))
    assert readme.block("bench") == bench_readme.markdown(stored)
