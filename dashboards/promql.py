"""The expressions that more than one dashboard asks, by name."""

from __future__ import annotations

MODEL = 'model=~"$model"'
WORKER = 'model=~"$model", worker=~"$worker"'
OVER = "[$__rate_interval]"
"""Grafana makes it four times the smallest step, or the step and one more: nothing falls between two points."""

OR_ZERO = " or on (model) 0 * "


def most(series: str) -> str:
    """Return the highest value since the point before: a day's graph shows the queue of one second, too."""
    return f"max_over_time({series}{OVER})"


def least(series: str) -> str:
    """Return the lowest value since the point before."""
    return f"min_over_time({series}{OVER})"


QUEUE_SHARE = most(f"model:lab_accept_queue:share_of_limit{{{MODEL}}}")
"""Share of its limit of the fullest accept queue of each model: 0 to 1, a little above when it overflows."""


def rate(metric: str, by: str, labels: str = MODEL) -> str:
    """Growth of a counter each second, added up for each value of `by`."""
    return f"sum by ({by}) (rate({metric}{{{labels}}}{OVER}))"


def stage_quantile(quantile: float, by: str, labels: str) -> str:
    """Quantile of a stage, in seconds."""
    buckets = rate("lab_stage_duration_seconds_bucket", f"{by}, le", labels)
    return f"histogram_quantile({quantile}, {buckets})"


def or_zero(values: str, metric: str, labels: str = MODEL) -> str:
    """Values, or 0 where a model has none but has this counter: no empty panel."""
    return f"{values}{OR_ZERO}{rate(metric, 'model', labels)}"


def mean_stage(by: str) -> str:
    """Seconds that a request spends in each stage on average.

    Divided by all requests, not by the stage's own count: then stages add up to the whole, although a
    connection waits to be accepted only once.
    """
    requests = rate("lab_requests_total", "model")
    return f"{rate('lab_stage_duration_seconds_sum', by)} / on (model) group_left {requests}"


def per_request(metric: str) -> str:
    """Share of a counter for each request of the model."""
    return f"{rate(metric, 'model')} / {rate('lab_requests_total', 'model')}"


def mean(metric: str) -> str:
    """The mean of a histogram, of each model."""
    return f"{rate(f'{metric}_sum', 'model')} / {rate(f'{metric}_count', 'model')}"


def recorded_stage(quantile: str) -> str:
    """Return what Prometheus has computed: "p50" or "p99" of every stage, over 10 s, and the highest of these."""
    return most(f"model_stage:lab_stage_duration_seconds:{quantile}_10s{{{MODEL}}}")
