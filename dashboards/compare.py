"""Compare: the five models side by side, under the same load."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.parts import COLUMNS, Limit, Query, Section, graph, number, page
from dashboards.promql import MODEL, QUEUE_SHARE, least, most, per_request, rate, recorded_stage, stage_quantile


def now() -> Section:
    """Three figures that can be read from the back of a room."""
    return "Now", [
        number(
            "Service time, p99",
            "s",
            "What the slowest hundredth of requests takes from the moment that a worker begins: the handler itself, "
            "before any queue is added. It should be the same for all models; threads that share a core take longer.",
            Query(stage_quantile(0.99, "model", f'{MODEL}, stage="service"'), "{{model}}"),
            width=COLUMNS // 3,
            shown_by=["process-or-thread"],
        ),
        number(
            "Accept queue, of its limit",
            "percentunit",
            "At 100 % the kernel drops connections that their clients believe to be established.",
            Query(QUEUE_SHARE, "{{model}}"),
            limit=Limit(0.5, 0.8),
            width=COLUMNS // 3,
            shown_by=["accept-queue-overflow"],
        ),
        number(
            "Dropped connections/s",
            "cps",
            "Dropped by the listener, mostly because its accept queue was full. Each costs a client a second or more: "
            "it has to send again.",
            Query(rate("lab_listener_drops_total", "model"), "{{model}}"),
            limit=Limit(red=0.01),
            width=COLUMNS // 3,
            shown_by=["accept-queue-overflow"],
        ),
    ]


def waited_for() -> Section:
    """Responses each second, and the first thing that clients wait for."""
    return "What a client waits for", [
        graph(
            "Requests/s",
            "reqps",
            "The model that falls below the others is saturated; look for its full queue or its busiest worker.",
            [Query(rate("lab_requests_total", "model"), "{{model}}")],
            shown_by=["dispatch-bottleneck"],
        ),
        graph(
            "Queued in the kernel, p99",
            "s",
            "From the arrival of a request's last byte until the application reads it. It grows first when a loop is "
            "blocked: nodejs shows it for everybody, ramcloud only when all workers are busy.",
            [Query(stage_quantile(0.99, "model", f'{MODEL}, stage="kernel_wait"'), "{{model}}")],
            shown_by=["event-loop-blocking"],
        ),
    ]


def held() -> Section:
    """Connections that nobody has accepted."""
    return "What the kernel holds", [
        graph(
            "Accept queue",
            "short",
            "Connections that are established and wait for accept(). Touching its limit (dashed) means drops. "
            "reuseport has a queue a worker: the longest is shown.",
            [
                Query(f"max by (model) ({most(f'lab_accept_queue_length{{{MODEL}}}')})", "{{model}}"),
                Query(f"max by (model) (lab_accept_queue_limit{{{MODEL}}})", "{{model}} limit"),
            ],
            width=COLUMNS,
            shown_by=["accept-queue-overflow"],
        ),
    ]


def evenness() -> Section:
    """Spread of the work over workers."""
    return "How evenly", [
        graph(
            "Imbalance: busiest worker, of the mean",
            "short",
            "Over 10 s. 1 is perfectly even. exclusive wake-ups give most to one worker; reuseport scatters by hash; a "
            "hot connection shows where a worker owns it. Not on ramcloud, whose idle stack gives most to one worker "
            "while there is little to do; and nodejs without a cluster has one loop: always 1.",
            [Query(most(f"model:lab_imbalance:max_mean{{{MODEL}}}"), "{{model}}")],
            limit=Limit(1.5, 3),
            shown_by=["busiest-worker", "reuseport-spread", "hot-connections"],
        ),
        graph(
            "Fairness (Jain)",
            "short",
            "Over 10 s. 1 when all workers do the same, 1/n when one of n does everything.",
            [Query(least(f"model:lab_fairness:jain{{{MODEL}}}"), "{{model}}")],
            ratio=True,
            shown_by=["busiest-worker", "reuseport-spread"],
        ),
    ]


def price() -> Section:
    """Cost of the work."""
    return "At what price", [
        graph(
            "Processor time a request",
            "s",
            "All of the model's threads and processes. A herd shows here: every wake-up that finds nothing is paid "
            "for.",
            [Query(per_request("lab_worker_cpu_seconds_total"), "{{model}}")],
            shown_by=["thundering-herd", "process-or-thread"],
        ),
        graph(
            "Memory",
            "bytes",
            "Proportional set size of all processes: what ending the model would give back. Processes that touch "
            "memory after the fork have copies of it.",
            [Query(f'sum by (model) (lab_worker_memory_bytes{{{MODEL}, kind="pss"}})', "{{model}}")],
            shown_by=["copy-on-write"],
        ),
    ]


def stages() -> Section:
    """The parts of a request's time, a panel a model: all in one would be thirty lines."""
    return "Each stage, model by model", [
        graph(
            "p50",
            "s",
            "The usual request, over 10 s. dispatch_wait has no line where nothing is handed off; return_wait stays in "
            "its lowest bucket, 10 µs, where no response has a way back.",
            [Query(recorded_stage("p50"), "{{stage}}")],
            a_model=True,
            width=COLUMNS,
            shown_by=["event-loop-blocking", "dispatch-bottleneck"],
        ),
        graph(
            "p99",
            "s",
            "The slowest hundredth, over 10 s. Which stage grows says what is scarce: accept_wait and kernel_wait the "
            "loop, dispatch_wait the workers, service the handler, write the client.",
            [Query(recorded_stage("p99"), "{{stage}}")],
            a_model=True,
            width=COLUMNS,
            shown_by=["stalled-worker", "shared-or-sharded"],
        ),
    ]


def dashboard() -> Dashboard:
    """The page that a workshop opens first."""
    return page(
        "compare",
        "Compare the five models",
        "One look at all five: which one serves how much, how late, at what price, and whose queue is filling.",
        [now(), waited_for(), held(), evenness(), price(), stages()],
    )
