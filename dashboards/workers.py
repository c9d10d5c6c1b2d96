"""Workers: how the work is spread, and what that costs."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.parts import Limit, Query, Section, graph, page
from dashboards.promql import WORKER, most, or_zero, rate

NAME = "{{model}} {{worker}}"


def of_each(metric: str) -> str:
    """A counter's growth a second, of each worker."""
    return rate(metric, "model, worker", WORKER)


def switches_an_accept() -> str:
    """Times that somebody went to sleep, for each connection accepted; 0 while nobody connects."""
    switches = rate("lab_worker_context_switches_total", "model", f'{WORKER}, kind="voluntary"')
    accepted = "lab_connections_accepted_total"
    return or_zero(f"{switches} / ({rate(accepted, 'model', WORKER)} > 0)", accepted, WORKER)


def work() -> Section:
    """Connections, requests and waits of each worker."""
    return "Who does the work", [
        graph(
            "Open connections",
            "short",
            "memcached deals them out in turn; reuseport by hash; exclusive wakes the same waiter first each time, so "
            "one worker takes nearly all while it copes.",
            [Query(most(f"lab_connections_open{{{WORKER}}}"), NAME)],
            shown_by=["busiest-worker", "reuseport-spread"],
        ),
        graph(
            "Requests/s",
            "reqps",
            "Even connections are no even load: one hot connection makes one worker hot. Not on ramcloud.",
            [Query(of_each("lab_requests_total"), NAME)],
            shown_by=["hot-connections", "busiest-worker"],
        ),
        graph(
            "Share of time that the loop is busy",
            "percentunit",
            "At 100 % everything behind this worker waits, however idle its neighbours are.",
            [Query(of_each("lab_loop_busy_seconds_total"), NAME)],
            limit=Limit(0.7, 0.9),
            shown_by=["event-loop-blocking", "stalled-worker"],
        ),
        graph(
            "Queued between main and worker",
            "short",
            "Connections or requests handed off and not picked up: the queue that nobody but the application sees.",
            [Query(most(f"lab_queue_depth{{{WORKER}}}"), NAME)],
            shown_by=["dispatch-bottleneck", "stalled-worker"],
        ),
    ]


def cost() -> Section:
    """Processor, memory, and what is done for nothing."""
    return "What it costs", [
        graph(
            "Processor time, cores",
            "short",
            "Threads of one interpreter share one core, as long as there is an interpreter lock.",
            [Query(of_each("lab_worker_cpu_seconds_total"), NAME)],
            shown_by=["process-or-thread"],
        ),
        graph(
            "Memory of each process",
            "bytes",
            "PSS: pages shared by n processes count one nth. Threads are on main.",
            [
                Query(f'lab_worker_memory_bytes{{{WORKER}, kind="pss"}}', f"{NAME} pss"),
                Query(f'lab_worker_memory_bytes{{{WORKER}, kind="uss"}}', f"{NAME} uss"),
            ],
            shown_by=["copy-on-write"],
        ),
        graph(
            "Wake-ups for nothing, each second",
            "cps",
            "epoll reported a connection, and another worker had taken it: the thundering herd.",
            [Query(of_each("lab_accept_wasted_wakeups_total"), NAME)],
            shown_by=["thundering-herd"],
        ),
        graph(
            "Voluntary context switches an accepted connection",
            "short",
            "The kernel hides part of a herd, but not its switches. Compare --wakeup herd with exclusive, one "
            "connection a request: with keep-alive, workers sleep and wake for requests, and the figure says nothing.",
            [Query(switches_an_accept(), "{{model}}")],
            shown_by=["thundering-herd"],
        ),
    ]


def trouble() -> Section:
    """Ends that nobody wanted."""
    return "When something breaks", [
        graph(
            "Closed connections/s, by reason",
            "cps",
            "client and server are the usual ends. Timeouts are slow clients; queue_full and max_connections are "
            "bounds.",
            [Query(rate("lab_connections_closed_total", "model, reason"), "{{model}} {{reason}}")],
        ),
        graph(
            "Failed accepts and replaced workers, each second",
            "cps",
            "EMFILE: no descriptor is left, so accepting pauses. A replaced worker took its connections with it.",
            [
                Query(rate("lab_accept_errors_total", "model, errno"), "{{model}} {{errno}}"),
                Query(rate("lab_worker_restarts_total", "model"), "{{model}} replaced"),
            ],
        ),
    ]


def dashboard() -> Dashboard:
    """Connections, requests, waits and cost of each worker."""
    return page(
        "workers",
        "Workers",
        "How each model spreads connections and requests over its workers, and what a worker costs.",
        [work(), cost(), trouble()],
        by_worker=True,
    )
