"""Load: what Locust sees, beside what the servers say."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.parts import Limit, Query, Section, graph, number, page
from dashboards.promql import MODEL, OVER, or_zero, rate


def seen_by_client(quantile: float, metric: str) -> str:
    """What this share of the requests, or of the connects, stays below, in seconds, for whoever sends them."""
    return f"histogram_quantile({quantile}, {rate(f'{metric}_bucket', 'model, le')})"


def dashboard() -> Dashboard:
    """The generator is part of the experiment: watch it too."""
    server = f"{rate('lab_stage_duration_seconds_sum', 'model')} / {rate('lab_requests_total', 'model')}"
    client = f"{rate('locust_response_seconds_sum', 'model')} / {rate('locust_response_seconds_count', 'model')}"
    sections: list[Section] = [
        (
            "The generator",
            [
                number(
                    "Users",
                    "short",
                    "Simulated users that run now. Each waits for its answer before it asks again.",
                    Query("locust_users", "users"),
                ),
                number(
                    "Busiest generator process, of a core",
                    "percentunit",
                    "Above 90 % the generator is the bottleneck, and every latency below is its own. Start more "
                    "workers.",
                    Query("max(locust_worker_cpu_ratio)", "busiest"),
                    limit=Limit(0.8, 0.9),
                ),
                graph(
                    "Generator processes, of a core each",
                    "percentunit",
                    "A verdict needs this below 80 %: a saturated generator sends late, and measures itself.",
                    [Query("locust_worker_cpu_ratio", "{{worker}}")],
                    limit=Limit(0.8, 0.9),
                ),
            ],
        ),
        (
            "What it gets",
            [
                graph(
                    "Requests/s, sent and served",
                    "reqps",
                    "Both lines agree, unless something else sends too, or answers get lost.",
                    [
                        Query(rate("locust_requests_total", "model"), "{{model}} sent"),
                        Query(rate("lab_requests_total", "model"), "{{model}} served"),
                    ],
                ),
                graph(
                    "Failures/s",
                    "cps",
                    "Requests that failed, and connections that could not be made: they are counted apart, since a "
                    "full accept queue fails a connect, never a request.",
                    [
                        Query(
                            # An error has a series from its first time on.
                            or_zero(rate("locust_failures_total", "model, error"), "locust_requests_total"),
                            "{{model}} {{error}}",
                        ),
                        Query(
                            or_zero(rate("locust_connect_failures_total", "model, error"), "locust_requests_total"),
                            "{{model}} connect: {{error}}",
                        ),
                    ],
                    limit=Limit(red=0.01),
                    shown_by=["accept-queue-overflow"],
                ),
                graph(
                    "Mean response, seen by client and by server",
                    "s",
                    "The server's line holds all stages. What lies between the two is the network, the generator, and "
                    "queues that no server can see: a connect that is being sent again.",
                    [Query(client, "{{model}} client"), Query(server, "{{model}} server")],
                ),
                graph(
                    "Response seen by the client, p50 and p99",
                    "s",
                    "Closed loop: a user waits for its answer before it asks again, so a stall hides what it kept "
                    "from being sent.",
                    [
                        Query(seen_by_client(share, "locust_response_seconds"), f"{{{{model}}}} {name}")
                        for share, name in ((0.5, "p50"), (0.99, "p99"))
                    ],
                    shown_by=["event-loop-blocking"],
                ),
                graph(
                    "Connecting, p50 and p99",
                    "s",
                    "A step at 1 s is one lost SYN, at 3 s two: the accept queue has overflowed.",
                    [
                        Query(seen_by_client(share, "locust_connect_seconds"), f"{{{{model}}}} {name}")
                        for share, name in ((0.5, "p50"), (0.99, "p99"))
                    ],
                    limit=Limit(0.9),
                    shown_by=["accept-queue-overflow", "syn-queue-overflow"],
                ),
                graph(
                    "Connections made, each second",
                    "cps",
                    "Keep-alive makes hardly any; ConnectionPerRequestUser one a request, and so loads the accept "
                    "queue.",
                    [Query(f"sum by (model) (rate(locust_connect_seconds_count{{{MODEL}}}{OVER}))", "{{model}}")],
                ),
            ],
        ),
    ]
    return page(
        "load",
        "Load",
        "Locust's own view: users, rate, failures, response and connect times, and whether the generator itself is "
        "the bottleneck.",
        sections,
    )
