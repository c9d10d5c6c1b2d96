"""The README's figures on containers are those that were measured."""

from __future__ import annotations

import json

from lab import readme
from lab.stack import footprint


def test_figures_of_the_readme_are_those_that_are_stored():
    stored = json.loads(footprint.STORED.read_text(encoding="utf-8"))
    assert readme.block("containers") == footprint.markdown(stored)


def test_parts_are_added_up():
    row = {"containers": 1, "memory_bytes": 3 << 20, "limit_bytes": 8 << 20}
    document = {
        "parts": {"nginx": row, "locust-worker": row | {"containers": 2}},
        "images_beyond_their_base_bytes": {"accept-lab-lab": 70_000_000},
        "environment": {"engine": "28", "kernel": "6", "machine": "arm64"},
    }
    text = footprint.markdown(document)
    assert "| locust-worker × 2 | 3 | 8 |\n| together | 6 | 16 |\n" in text
    assert "70 MB for `accept-lab-lab`" in text
    assert "without console, grafana" in text
