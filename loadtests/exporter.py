"""Prometheus metrics of the load generator, for the page's `/metrics` and for `--metrics-port`.

One process answers for all: a worker attaches what it has measured to its regular report, the master
keeps the newest report of each worker and adds them up when it is scraped.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gevent
from gevent.pywsgi import WSGIServer
from locust.runners import MasterRunner, WorkerRunner
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from lab import settings
from loadtests.histogram import BOUNDS_SECONDS
from loadtests.measurements import CPU, MEASURED, Measurements, Snapshot
from loadtests.options import options_of, target_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from locust.env import Environment
    from prometheus_client.metrics_core import Metric

    from loadtests.histogram import Histogram

CPU_INTERVAL_SECONDS = 1.0
REPORT_KEY = "lab"


class Exporter:
    """Collects what the processes of one Locust have measured. A `prometheus_client` collector."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self._reports: dict[str, Snapshot] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def attach(self) -> None:
        """Listen to Locust's events, measure the processor, and serve. Called once, at Locust's init."""
        events = self.environment.events
        events.test_start.add_listener(self._test_started)
        events.report_to_master.add_listener(self._report)
        events.worker_report.add_listener(self._take_report)
        MEASURED.introduce(target_of(self.environment).model)
        gevent.spawn(_tick_forever)
        if not isinstance(self.environment.runner, WorkerRunner):
            events.quitting.add_listener(self._finish)
            self._serve()

    # A Locust worker and its master.

    def _report(self, client_id: str, data: dict[str, Any], **_: object) -> None:  # noqa: ARG002
        data[REPORT_KEY] = {**MEASURED.snapshot(), "cpu": CPU.recent, "cpu_mean": CPU.mean}

    def _take_report(self, client_id: str, data: dict[str, Any], **_: object) -> None:
        if REPORT_KEY in data:
            self._reports[client_id] = data[REPORT_KEY]

    def _test_started(self, **_: object) -> None:
        MEASURED.introduce(target_of(self.environment).model)
        CPU.restart()

    # What is shown.

    def merged(self) -> Measurements:
        """Everything measured by this process and its workers."""
        everything = Measurements()
        everything.include(MEASURED.snapshot())
        for report in self._reports.values():
            everything.include(report)
        return everything

    def cpu_ratios(self, key: str = "cpu") -> dict[str, float]:
        """Share of a core used by each process that generates load, numbered from 0."""
        runner = self.environment.runner
        if not isinstance(runner, MasterRunner):
            return {"0": CPU.recent if key == "cpu" else CPU.mean}
        connected = [client for client in runner.clients if client in self._reports]
        return {str(number): self._reports[client][key] for number, client in enumerate(connected)}

    def collect(self) -> Iterator[Metric]:
        """Called by `prometheus_client` for each scrape."""
        measured = self.merged()
        yield _counter(
            "locust_requests", "Requests finished, well or badly.", ("model", "method", "name"),
            ((key, histogram.count) for key, histogram in measured.responses.items()),
        )  # fmt: skip
        yield _histogram(
            "locust_response_seconds", "From sending a request to its whole response.", ("model", "method", "name"),
            measured.responses.items(),
        )  # fmt: skip
        yield _histogram(
            "locust_intended_response_seconds",
            "From when a request was due, at a pace; with those not sent since an earlier one took so long.",
            ("model", "method", "name"), measured.intended.items(),
        )  # fmt: skip
        yield _histogram(
            "locust_connect_seconds", "From connect() to an established connection.", ("model",),
            (((model,), histogram) for model, histogram in measured.connects.items()),
        )  # fmt: skip
        yield _counter("locust_failures", "Requests that failed.", ("model", "error"), measured.failures.items())
        yield _counter(
            "locust_connect_failures", "Connections that could not be made.", ("model", "error"),
            measured.connect_failures.items(),
        )  # fmt: skip
        runner = self.environment.runner
        yield GaugeMetricFamily("locust_users", "Users running now.", value=runner.user_count if runner else 0)
        cpu = GaugeMetricFamily("locust_worker_cpu_ratio", "Share of a core that the process used.", labels=["worker"])
        for worker, ratio in self.cpu_ratios().items():
            cpu.add_metric([worker], ratio)
        yield cpu

    def text(self) -> bytes:
        """The exposition, in Prometheus's text format."""
        return generate_latest(self._registry)

    def _serve(self) -> None:
        options = options_of(self.environment)
        page = self.environment.web_ui
        if page and page.app:
            page.app.add_url_rule("/metrics", "lab_metrics", self._flask_view)
        elif options.metrics_port:
            WSGIServer((settings.HOST, options.metrics_port), self._wsgi, log=None).start()

    def _flask_view(self) -> tuple[bytes, dict[str, str]]:
        return self.text(), {"Content-Type": CONTENT_TYPE_LATEST}

    def _wsgi(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/metrics":
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"only /metrics is here\n"]
        start_response("200 OK", [("Content-Type", CONTENT_TYPE_LATEST)])
        return [self.text()]

    def _finish(self, **_: object) -> None:
        # Users may find out at their very end that something went wrong (`RetryingUser.on_stop`); ended by
        # a signal, Locust would decide on its exit code before it stops them.
        if self.environment.runner:
            self.environment.runner.stop()
        self._write_result()

    def _write_result(self) -> None:
        path = options_of(self.environment).result_file
        if path:
            total = self.environment.stats.total
            result = {
                **self.merged().snapshot(),
                "seconds": max(0.0, (total.last_request_timestamp or 0.0) - total.start_time),
                "cpu": self.cpu_ratios("cpu_mean"),
                "target": target_of(self.environment)._asdict(),
            }
            Path(path).write_text(json.dumps(result), encoding="utf-8")


def _tick_forever() -> None:
    while True:
        gevent.sleep(CPU_INTERVAL_SECONDS)
        CPU.tick()


def _counter(
    name: str, text: str, labels: tuple[str, ...], series: Iterable[tuple[tuple[str, ...], int]]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in series:
        family.add_metric(values, count)
    return family


def _histogram(
    name: str, text: str, labels: tuple[str, ...], series: Iterable[tuple[tuple[str, ...], Histogram]]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, text, labels=labels)
    for values, histogram in series:
        buckets = zip((str(bound) for bound in BOUNDS_SECONDS), histogram.cumulated(BOUNDS_SECONDS), strict=True)
        family.add_metric(values, [*buckets, ("+Inf", histogram.count)], histogram.sum_seconds)
    return family
