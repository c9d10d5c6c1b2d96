"""Load: what Locust sees, beside what the servers say."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.parts import Limit, Query, Section, graph, number, page, to_console
from dashboards.promql import mean, most, or_zero, rate


def seen_by_client(metric: str) -> list[Query]:
    """Quantiles of requests, or of connects, as whoever sends them sees them, in seconds."""
    buckets = rate(f"{metric}_bucket", "model, le")
    return [
        Query(f"histogram_quantile({share}, {buckets})", f"{{{{model}}}} {name}")
        for share, name in ((0.5, "p50"), (0.99, "p99"))
    ]


def failures(metric: str, name: str) -> Query:
    """The errors that occur: of each possible one there is a series from the start."""
    return Query(or_zero(f"{rate(metric, 'model, error')} > 0", "locust_requests_total"), name)


def generator() -> Section:
    """Load of the generator itself: it can be believed below a bound."""
    return "The generator", [
        number(
            "Users",
            "short",
            "Simulated users that run now. Each waits for its response before it sends the next request.",
            Query("sum(locust_users)", "users"),
        ),
        number(
            "Busiest generator process, of a core",
            "percentunit",
            "Above 90 % the generator is the bottleneck, and every latency below is its own. Start more workers.",
            Query(f"max({most('locust_worker_cpu_ratio')})", "busiest"),
            limit=Limit(0.8, 0.9),
        ),
        graph(
            "Generator processes, of a core each",
            "percentunit",
            "A verdict needs this below 80 %: a saturated generator sends late, and measures itself.",
            [Query(most("locust_worker_cpu_ratio"), "{{run}} {{worker}}")],
            limit=Limit(0.8, 0.9),
        ),
    ]


def responses() -> Section:
    """Requests each second, good and bad."""
    return "What it gets", [
        graph(
            "Requests/s, sent and served",
            "reqps",
            "Both lines agree, unless something else sends too, or responses get lost.",
            [
                Query(rate("locust_requests_total", "model"), "{{model}} sent"),
                Query(rate("lab_requests_total", "model"), "{{model}} served"),
            ],
            shown_by=["dispatch-bottleneck"],
        ),
        graph(
            "Failures/s",
            "cps",
            "Requests that failed, and connections that could not be made: they are counted apart, since a full accept "
            "queue fails a connect, never a request. A model's name alone: none.",
            [
                failures("locust_failures_total", "{{model}} {{error}}"),
                failures("locust_connect_failures_total", "{{model}} connect {{error}}"),
                Query(
                    or_zero(f"{rate('locust_no_response_total', 'model')} > 0", "locust_requests_total"),
                    "{{model}} no response at the end",
                ),
            ],
            limit=Limit(red=0.01),
            shown_by=["accept-queue-overflow"],
        ),
    ]


def latency() -> Section:
    """Response times, as users and as the servers see them."""
    server = f"{rate('lab_stage_duration_seconds_sum', 'model')} / {rate('lab_requests_total', 'model')}"
    return "How late", [
        graph(
            "Mean response, seen by client and by server",
            "s",
            "client: from sending a request to its whole response. server: all stages. What lies between the two is "
            "the network and the generator. connect is no part of either: once a connection, and the only one of the "
            "three that sees a SYN sent again.",
            [
                Query(mean("locust_response_seconds"), "{{model}} client"),
                Query(server, "{{model}} server"),
                Query(mean("locust_connect_seconds"), "{{model}} connect"),
            ],
            shown_by=["accept-queue-overflow", "event-loop-blocking"],
        ),
        graph(
            "Response seen by the client, p50 and p99",
            "s",
            "Closed loop: a user waits for its response before it sends the next request, so a stall hides what it "
            "kept from being sent.",
            seen_by_client("locust_response_seconds"),
            shown_by=["event-loop-blocking"],
        ),
    ]


def connects() -> Section:
    """Connect times, and connections made."""
    return "How it connects", [
        graph(
            "Connecting, p50 and p99",
            "s",
            "From 1 s on a SYN was sent again: a queue of the listener was full. Read no more than the buckets' bounds "
            "from it, 1, 2.5 and 5 s: kernels from 6.5 on try again at 1, 2, 3 and 4 s (tcp_syn_linear_timeouts), "
            "older ones at 1, 3 and 7 s.",
            seen_by_client("locust_connect_seconds"),
            limit=Limit(0.9),
            shown_by=["accept-queue-overflow", "syn-queue-overflow"],
        ),
        graph(
            "Connections made, each second",
            "cps",
            "Keep-alive makes hardly any; ConnectionPerRequestUser one a request, and so loads the accept queue.",
            [Query(rate("locust_connect_seconds_count", "model"), "{{model}}")],
            shown_by=["handshake"],
        ),
    ]


def dashboard() -> Dashboard:
    """The generator is part of the experiment: watch it too."""
    return page(
        "load",
        "Load",
        "Locust's own view: users, rate, failures, response and connect times, and whether the generator itself is the "
        "bottleneck.",
        [generator(), responses(), latency(), connects()],
        links=[to_console("Loads that are kept", "/runs"), to_console("Make a load", "/")],
    )
