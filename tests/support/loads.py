"""Stored loads, made up: result.json as `lab load` writes it, with response times of a known distribution."""

from __future__ import annotations

import random
from typing import Any

from loadtests.histogram import Histogram

SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
WHERE = {"kernel": "6.18", "cpus": 2, "python": "3.11.7", "gil": True, "commit": "abc"}


def load(seed: int = 1, model: str = "nodejs", repeats: int = 1, **repeat: Any) -> dict[str, Any]:
    """Return the document of a load on one model; `repeat` is what `one_repeat` takes."""
    chance = random.Random(seed)
    return document(model, [one_repeat(chance, number, model, **repeat) for number in range(repeats)])


def interleaved(seed: int, repeats: int, first_ms: float, second_ms: float) -> dict[str, Any]:
    """Return the document of A B A B …."""
    chance = random.Random(seed)
    sides = (("A", "nodejs", first_ms), ("B", "nginx", second_ms))
    made = [
        one_repeat(chance, number, model, milliseconds, variant=variant)
        for number in range(repeats)
        for variant, model, milliseconds in sides
    ]
    return document(["nodejs", "nginx"], made)


def document(model: str | list[str], repeats: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the whole document around repeats."""
    return {
        "schema": 2, "kind": "load", "name": "load", "id": "20261129T050000.000-load-nodejs", "model": model,
        "started": "2026-11-29T05:00:00+00:00", "seconds": sum(repeat["seconds"] for repeat in repeats),
        "options": {"users": 10, "kind": "keep-alive"}, "command": "lab load nodejs", "environment": WHERE,
        "pinned": False, "repeats": repeats,
    }  # fmt: skip


def one_repeat(
    chance: random.Random, number: int, model: str, milliseconds: float = 20.0, seconds: int = 12, rate: int = 40,
    variant: str | None = None, spread: float = 0.05, failures: int = 0, ramp: int = 1,
    others: float = 0.02,
) -> dict[str, Any]:  # fmt: skip
    """Return a repeat of so many whole seconds and a part of one; its level differs a little from the others'."""
    level = milliseconds * chance.lognormvariate(0, 0.005)
    series, whole = [], Histogram()
    for second in range(seconds + 1):
        times = Histogram()
        for _ in range(rate if second < seconds else rate // 3):
            times.record_seconds(level * chance.lognormvariate(0, spread) / 1000)
        whole.add(times)
        figures = {"requests": times.count, "failures": failures, "users": 10 if second >= ramp else 5}
        series.append({"second": second, **figures, "histogram": times.to_json()})
    return {
        "repeat": number, "model": model, "variant": variant, "seconds": seconds + 0.3, "requests": whole.count,
        "failures": failures * (seconds + 1), "no_response": 0, "others_cpu_ratio": others,
        "quantiles_seconds": {name: whole.quantile(share) for name, share in SHARES.items()},
        "histogram": whole.to_json(), "corrected_histogram": None, "series": series,
        "server": {"cpu_seconds": whole.count * 25e-6, "queue_max": 1, "drops": 0, "stages": {}, "workers": {}, "series": []},
    }  # fmt: skip
