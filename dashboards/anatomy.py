"""Anatomy of a request: where its time goes, stage by stage."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.parts import COLUMNS, Experiment, Query, Section, graph, page, spread
from dashboards.promql import MODEL, WORKER, mean_stage, or_zero, rate, stage_quantile

STAGES = {
    "accept_wait": "Established, but not accepted yet: the accept queue. Once a connection, so keep-alive hides it.",
    "kernel_wait": "The request's last byte has arrived, and nobody has read it: the loop is busy with others.",
    "dispatch_wait": "Handed off, and no worker has picked it up: all are busy. Zero where nothing is handed off.",
    "service": "The handler itself. If only this grows, no architecture will help.",
    "return_wait": "The response is ready, and whoever writes has not got it: ramcloud's way back to dispatch.",
    "write": "From the first byte written to the last one in the send buffer. A slow reader shows here.",
}
"""docs/design.md, "Stages": disjoint, in the order of a request's life."""
SHOWN_BY: dict[str, Sequence[Experiment]] = {
    "accept_wait": ["accept-queue-overflow", "stalled-worker"],
    "kernel_wait": ["event-loop-blocking", "hot-connections"],
    "dispatch_wait": ["dispatch-bottleneck"],
    "service": ["process-or-thread"],
    "return_wait": ["dispatch-bottleneck"],
    "write": ["slow-reader-client"],
}


def waited(stage: str, share: float) -> str:
    """Quantile of a stage; 0 where a model has no such stage, or nobody asks."""
    quantile = stage_quantile(share, "model", f'{MODEL}, stage="{stage}"')
    return or_zero(f"{quantile} >= 0", "lab_requests_total")  # without samples a quantile is NaN


def together() -> Section:
    """All stages of one request."""
    stacked = graph(
        "Mean seconds a request, stacked",
        "s",
        "The height is what a request takes on the server, from the first queue to the last byte. The colour that "
        "grows under load is the bottleneck's. Of all workers, whichever are chosen: one request may be with several.",
        [Query(mean_stage("model, stage"), "{{stage}}")],
        stacked=True,
        a_model=True,
        width=COLUMNS,
        shown_by=["shared-or-sharded", "event-loop-blocking", "dispatch-bottleneck"],
    )
    return "Where the time goes", [stacked]


def one_by_one() -> Section:
    """Each stage, of all models."""
    panels = [
        graph(
            stage,
            "s",
            look_for,
            [Query(waited(stage, share), f"{{{{model}}}} {name}") for share, name in ((0.5, "p50"), (0.99, "p99"))],
            width=COLUMNS // 3,
            shown_by=SHOWN_BY[stage],
        )
        for stage, look_for in STAGES.items()
    ]
    return "Stage by stage, p50 and p99", panels


def by_worker() -> Section:
    """The stages of each worker: means, since buckets are kept of all workers together."""
    each = "model, worker, stage"
    sums, counts = (rate(f"lab_stage_worker_seconds_{part}", each, WORKER) for part in ("sum", "count"))
    means = graph(
        "Mean of each stage, by worker",
        "s",
        "One worker whose stage stands out has the heavy requests, or is stalled. A mean of what it timed itself: main "
        "accepts and hands off, workers serve.",
        [Query(f"{sums} / ({counts} > 0)", "{{model}} {{worker}} {{stage}}")],
        width=COLUMNS,
        shown_by=["stalled-worker", "hot-connections"],
    )
    return "Worker by worker", [means]


def every_request() -> Section:
    """The distribution that quantiles are taken from."""
    heatmap = spread(
        "How long requests wait in the kernel, how many each second",
        "Two bands are two kinds of requests: those that met a free loop, and those behind a slow one. A quantile "
        "alone hides the difference.",
        rate("lab_stage_duration_seconds_bucket", "le", f'{MODEL}, stage="kernel_wait"'),
        shown_by=["event-loop-blocking", "stalled-worker"],
    )
    return "Every request", [heatmap]


def dashboard() -> Dashboard:
    """Stages stacked, then each on its own."""
    return page(
        "anatomy",
        "Anatomy of a request",
        "Accept queue, socket buffer, hand-off, handler, way back, write: which of them a request waits in, by the "
        "kernel's clock.",
        [together(), one_by_one(), by_worker(), every_request()],
        by_worker=True,
    )
