"""The expressions that more than one dashboard asks, by name."""

from __future__ import annotations

MODEL = 'model=~"$model"'
WORKER = 'model=~"$model", worker=~"$worker"'
OVER = "[$interval]"

EXECUTING = 'worker!="main"'
"""Workers, and not main beside them; nodejs has nobody but main."""


def rate(metric: str, by: str, labels: str = MODEL) -> str:
    """How much a counter grows each second, added up for each value of `by`."""
    return f"sum by ({by}) (rate({metric}{{{labels}}}{OVER}))"


def stage_quantile(quantile: float, by: str, labels: str) -> str:
    """What this share of the requests stays below, in seconds, of a stage."""
    buckets = rate("lab_stage_duration_seconds_bucket", f"{by}, le", labels)
    return f"histogram_quantile({quantile}, {buckets})"


def or_zero(values: str, metric: str, labels: str = MODEL) -> str:
    """Where there are no such values, but the model has this counter: 0, and not an empty panel."""
    return f"{values} or 0 * {rate(metric, 'model', labels)}"


def mean_stage(by: str, labels: str = MODEL) -> str:
    """Seconds that a request spends in each stage on average.

    Divided by all requests, not by the stage's own count: then stages add up to the whole, although a
    connection waits to be accepted only once.
    """
    requests = rate("lab_requests_total", "model", labels)
    return f"{rate('lab_stage_duration_seconds_sum', by, labels)} / on (model) group_left {requests}"


def per_request(metric: str, labels: str = MODEL) -> str:
    """How much of a counter falls to each request of the model."""
    return f"{rate(metric, 'model', labels)} / {rate('lab_requests_total', 'model', labels)}"


def queue_share() -> str:
    """How full the fullest accept queue of each model is: 0 to 1, a little above when it overflows."""
    length = f"lab_accept_queue_length{{{MODEL}}}"
    return f"max by (model) ({length} / lab_accept_queue_limit{{{MODEL}}})"
