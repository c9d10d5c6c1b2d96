"""Compare: the five models side by side, under the same load."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.parts import Limit, Query, Section, graph, number, page
from dashboards.promql import MODEL, per_request, queue_share, rate, stage_quantile


def dashboard() -> Dashboard:
    """The page that a workshop opens first."""
    sections: list[Section] = [
        (
            "Now",
            [
                number(
                    "Requests/s",
                    "reqps",
                    "Under the same load all five should show the same figure. One that shows less is the bottleneck.",
                    Query(rate("lab_requests_total", "model"), "{{model}}"),
                    shown_by=["dispatch-bottleneck"],
                ),
                number(
                    "Service time, p99",
                    "s",
                    "What the slowest hundredth of requests takes from the moment that a worker begins: the handler "
                    "itself, before any queue is added. It should be the same for all models.",
                    Query(stage_quantile(0.99, "model", f'{MODEL}, stage="service"'), "{{model}}"),
                ),
                number(
                    "Accept queue, of its limit",
                    "percentunit",
                    "At 100 % the kernel drops connections that their clients believe to be established.",
                    Query(queue_share(), "{{model}}"),
                    limit=Limit(0.5, 0.8),
                    shown_by=["accept-queue-overflow"],
                ),
                number(
                    "Dropped connections/s",
                    "cps",
                    "Dropped by the listener, mostly because its accept queue was full. Each costs a client a second "
                    "or more: it has to send again.",
                    Query(rate("lab_listener_drops_total", "model"), "{{model}}"),
                    limit=Limit(red=0.01),
                    shown_by=["accept-queue-overflow"],
                ),
            ],
        ),
        (
            "What a client waits for",
            [
                graph(
                    "Requests/s",
                    "reqps",
                    "The model that falls below the others is saturated; look for its full queue or its busiest "
                    "worker.",
                    [Query(rate("lab_requests_total", "model"), "{{model}}")],
                    shown_by=["dispatch-bottleneck"],
                ),
                graph(
                    "Queued in the kernel, p99",
                    "s",
                    "From the arrival of a request's last byte until the application reads it. It grows first when a "
                    "loop is blocked: nodejs shows it for everybody, ramcloud only when all workers are busy.",
                    [Query(stage_quantile(0.99, "model", f'{MODEL}, stage="kernel_wait"'), "{{model}}")],
                    shown_by=["event-loop-blocking"],
                ),
                graph(
                    "Each stage, p50",
                    "s",
                    "The usual request. Stages that a model does not have stay at the lowest bucket.",
                    [Query(stage_quantile(0.5, "model, stage", MODEL), "{{model}} {{stage}}")],
                    shown_by=["event-loop-blocking", "dispatch-bottleneck"],
                ),
                graph(
                    "Each stage, p99",
                    "s",
                    "The slowest hundredth. Which stage grows says what is scarce: accept_wait and kernel_wait the "
                    "loop, dispatch_wait the workers, service the handler, write the client.",
                    [Query(stage_quantile(0.99, "model, stage", MODEL), "{{model}} {{stage}}")],
                    shown_by=["stalled-worker", "shared-or-sharded"],
                ),
            ],
        ),
        (
            "What the kernel holds",
            [
                graph(
                    "Accept queue",
                    "short",
                    "Connections that are established and wait for accept(). Touching its limit (dashed) means drops.",
                    [
                        Query(f"sum by (model) (lab_accept_queue_length{{{MODEL}}})", "{{model}}"),
                        Query(f"sum by (model) (lab_accept_queue_limit{{{MODEL}}})", "{{model}} limit"),
                    ],
                    shown_by=["accept-queue-overflow"],
                ),
                graph(
                    "Dropped connections/s",
                    "cps",
                    "Counted by each listener. reuseport has a queue a worker, and can drop at one while others are "
                    "empty.",
                    [Query(rate("lab_listener_drops_total", "model"), "{{model}}")],
                    limit=Limit(red=0.01),
                    shown_by=["accept-queue-overflow"],
                ),
            ],
        ),
        (
            "How evenly, and at what price",
            [
                graph(
                    "Imbalance: busiest worker, of the mean",
                    "short",
                    "1 is perfectly even. exclusive wake-ups give most to one worker; reuseport scatters by hash; a "
                    "hot connection shows on every model but ramcloud.",
                    [Query(f"model:lab_imbalance:max_mean{{{MODEL}}}", "{{model}}")],
                    limit=Limit(1.5, 3),
                    shown_by=["busiest-worker", "reuseport-spread", "hot-connections"],
                ),
                graph(
                    "Fairness (Jain)",
                    "short",
                    "1 when all workers do the same, 1/n when one of n does everything.",
                    [Query(f"model:lab_fairness:jain{{{MODEL}}}", "{{model}}")],
                    ratio=True,
                    shown_by=["busiest-worker", "reuseport-spread"],
                ),
                graph(
                    "Processor time a request",
                    "s",
                    "All of the model's threads and processes. A herd shows here: every wake-up that finds nothing is "
                    "paid for.",
                    [Query(per_request("lab_worker_cpu_seconds_total"), "{{model}}")],
                    shown_by=["thundering-herd", "process-or-thread"],
                ),
                graph(
                    "Memory",
                    "bytes",
                    "Proportional set size of all processes: what ending the model would give back. Processes that "
                    "touch memory after the fork have copies of it.",
                    [Query(f'sum by (model) (lab_worker_memory_bytes{{{MODEL}, kind="pss"}})', "{{model}}")],
                    shown_by=["copy-on-write"],
                ),
            ],
        ),
    ]
    return page(
        "compare",
        "Compare the five models",
        "One look at all five: who answers how much, how late, at what price, and whose queue is filling.",
        sections,
    )
