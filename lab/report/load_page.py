"""The page of a stored load: how late its responses were, what came through each second, and what waited in queues."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lab.report.rendering import templates
from loadtests.histogram import SHARES

if TYPE_CHECKING:
    from collections.abc import Mapping


def of_load(document: Mapping[str, Any]) -> str:
    """Return the HTML of a load's page."""
    from lab.report.load_plots import pictures  # matplotlib: half a second that only a page needs

    rows = [_row(repeat) for repeat in document["repeats"]]
    options = {name: value for name, value in document["options"].items() if value not in (None, [], False)}
    return (
        templates()
        .get_template("load.html")
        .render(
            run=document,
            models=_names(document["model"]),
            rows=rows,
            shares=[*SHARES, "max"],
            options=json.dumps(options),
            pictures=pictures({title(repeat): repeat for repeat in document["repeats"]}),
        )
    )


def _names(model: str | list[str]) -> str:
    return model if isinstance(model, str) else " and ".join(model)


def title(repeat: Mapping[str, Any]) -> str:
    """Return the name of a repeat."""
    variant = f" {repeat['variant']}" if repeat["variant"] else ""
    return f"{repeat['model']}{variant} {repeat['repeat']}"


def _row(repeat: Mapping[str, Any]) -> dict[str, Any]:
    seconds, server = repeat["seconds"], repeat["server"]
    quantiles = repeat["quantiles_seconds"]
    requests, cpu = repeat["requests"], server.get("cpu_seconds")
    return {
        "name": title(repeat),
        "seconds": f"{seconds:.1f}",
        "requests": f"{requests:,}",
        "rate": f"{requests / seconds:,.0f}" if seconds else "–",
        "failures": repeat["failures"],
        "no_response": repeat["no_response"],
        "quantiles": ["–" if quantiles[name] is None else f"{1000 * quantiles[name]:.2f}" for name in (*SHARES, "max")],
        "cpu": "–" if cpu is None else f"{cpu:.2f}",
        "queue": server.get("queue_max", "–"),
        "drops": server.get("drops", "–"),
        "workers": ", ".join(f"{name}: {number:,.0f}" for name, number in server.get("workers", {}).items() if number),
        "stages": {
            stage: {name: f"{1000 * value:.3f}" for name, value in found.items() if value is not None}
            for stage, found in server.get("stages", {}).items()
        },
        "errors": repeat.get("errors", []),
    }
