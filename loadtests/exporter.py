"""Prometheus metrics of the load generator, for the page's `/metrics` and for `--metrics-port`.

One process answers for all: a worker attaches what it has measured to its regular report, the master
keeps the newest report of each worker and adds them up when it is scraped.
"""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gevent
from gevent.pywsgi import WSGIServer
from locust.runners import STATE_RUNNING, STATE_SPAWNING, MasterRunner, WorkerRunner
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from loadtests.histogram import BOUNDS_SECONDS
from loadtests.keeping import Keeping
from loadtests.measurements import CPU, MEASURED, REPORTED_SECONDS, Measurements, Snapshot
from loadtests.options import options_of, target_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from locust.env import Environment
    from prometheus_client.metrics_core import Metric

    from loadtests.histogram import Histogram

FIRST_SCRAPE_SECONDS = 8.0
"""Patience for the first scrape: Prometheus takes new targets every 5 s, and asks every second."""
LAST_SCRAPES, LAST_SCRAPES_SECONDS = 2, 8.0
POLL_SECONDS = 0.05
CPU_INTERVAL_SECONDS = 1.0
REPORT_KEY = "lab"
READY_AFTER_STOP = "LOCUST_WORKER_ADDITIONAL_WAIT_BEFORE_READY_AFTER_STOP"


class Exporter:
    """Collects what the processes of one Locust have measured. A `prometheus_client` collector."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self._reports: dict[str, Snapshot] = {}
        """The newest of each worker."""
        self._series: dict[str, dict[int, list[Any]]] = {}
        """The seconds of each worker, of all its reports."""
        self._before: dict[str, float] = {}
        """Begin of each worker's run before this one: its reports of that one come late."""
        self._run: str = options_of(environment).run
        self._began = self._ended = 0.0
        self._scrapes = 0
        self._finished = False
        self._keeping = Keeping()
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def attach(self) -> None:
        """Listen to Locust's events, measure the processor, and serve. Called once, at Locust's init."""
        events = self.environment.events
        events.test_start.add_listener(self._test_started)
        events.test_stop.add_listener(self._test_stopped)
        events.request.add_listener(self._count_foreign)
        events.report_to_master.add_listener(self._report)
        events.worker_report.add_listener(self._take_report)
        MEASURED.introduce(target_of(self.environment).model)
        # gevent's timers count from the last iteration of its loop, which was before half a second of imports: a run of
        # 3 s would end after 2.5.
        gevent.get_hub().loop.update_now()
        gevent.spawn(_tick_forever, self.environment)
        if isinstance(self.environment.runner, WorkerRunner):
            # Locust waits for the stop timeout once more after its users have ended, and takes no new load meanwhile.
            os.environ.setdefault(READY_AFTER_STOP, str(-int(self.environment.stop_timeout)))
        else:
            events.quitting.add_listener(self._finish)
            if isinstance(self.environment.runner, MasterRunner):
                _stop_before_quit(self.environment.runner)
            self._serve()
            if options_of(self.environment).watched:
                self._wait_for_scrapes(1, FIRST_SCRAPE_SECONDS)

    # A Locust worker and its master.

    def _report(self, client_id: str, data: dict[str, Any], **_: object) -> None:  # noqa: ARG002
        data[REPORT_KEY] = {
            **MEASURED.snapshot(REPORTED_SECONDS), "began": self._began, "cpu": CPU.recent, "cpu_mean": CPU.mean
        }  # fmt: skip

    def _take_report(self, client_id: str, data: dict[str, Any], **_: object) -> None:
        report = data.get(REPORT_KEY)
        if report and report["began"] != self._before.get(client_id):
            self._reports[client_id] = report
            self._series.setdefault(client_id, {}).update(report["series"])

    def _test_started(self, **_: object) -> None:
        self._before = {client: report["began"] for client, report in self._reports.items()}
        self._reports.clear()
        self._series.clear()
        self._run = options_of(self.environment).run or f"{datetime.now(UTC):%Y%m%dT%H%M%S}-page"
        self._began, self._ended = time.monotonic(), 0.0
        MEASURED.begin()
        model = target_of(self.environment).model
        MEASURED.introduce(model)
        CPU.restart()
        if self.environment.web_ui:
            runner, options = self.environment.runner, options_of(self.environment)
            classes = [user.__name__ for user in self.environment.user_classes]
            users = runner.target_user_count if runner else 0
            rate = float(options.spawn_rate or 1)
            self._keeping.begin({"model": model, "users": users, "rate": rate, "classes": classes})

    def _test_stopped(self, **_: object) -> None:
        self._ended = time.monotonic()
        if isinstance(self.environment.runner, WorkerRunner):
            # Now: once a worker has said that it stopped, its master throws away what it still reports.
            self.environment.runner._send_stats()
        if self.environment.web_ui:
            self._keeping.end(self.result())

    def _count_foreign(
        self, request_type: str, name: str, response_time: float, exception: BaseException | None,
        context: dict[str, Any] | None = None, **_: object,
    ) -> None:  # fmt: skip
        """Count a request of a user class that is not the lab's."""
        if not (context and context.get("recorded")):
            model = target_of(self.environment).model
            MEASURED.responded(model, request_type, name, (response_time or 0.0) / 1000, exception)

    # The metrics.

    def merged(self) -> Measurements:
        """Everything measured by this process and its workers."""
        everything = Measurements()
        everything.include(MEASURED.snapshot())
        for client, report in self._reports.items():
            everything.include({**report, "series": self._series[client].items()})
        return everything

    def cpu_ratios(self, key: str = "cpu") -> dict[str, float]:
        """Share of a core used by each process that generates load, numbered from 0."""
        runner = self.environment.runner
        if not isinstance(runner, MasterRunner):
            return {"0": CPU.recent if key == "cpu" else CPU.mean}
        # When a run has ended its workers have gone.
        connected = [client for client in runner.clients if client in self._reports] or list(self._reports)
        return {str(number): self._reports[client][key] for number, client in enumerate(connected)}

    def collect(self) -> Iterator[Metric]:
        """Called by `prometheus_client` for each scrape."""
        measured, run = self.merged(), self._run
        yield _counter(
            "locust_requests", "Requests finished, well or badly.", ("run", "model", "method", "name"),
            (((run, *key), histogram.count) for key, histogram in measured.responses.items()),
        )  # fmt: skip
        yield _histogram(
            "locust_response_seconds", "From sending a request to its whole response.",
            ("run", "model", "method", "name"),
            (((run, *key), histogram) for key, histogram in measured.responses.items()),
        )  # fmt: skip
        yield _histogram(
            "locust_intended_response_seconds",
            "From when a request was due, at a pace; with those not sent since an earlier one took so long.",
            ("run", "model", "method", "name"),
            (((run, *key), histogram) for key, histogram in measured.intended.items()),
        )  # fmt: skip
        yield _histogram(
            "locust_connect_seconds", "From connect() to an established connection.", ("run", "model"),
            (((run, model), histogram) for model, histogram in measured.connects.items()),
        )  # fmt: skip
        yield _counter(
            "locust_failures", "Requests that failed.", ("run", "model", "error"),
            (((run, *key), count) for key, count in measured.failures.items()),
        )  # fmt: skip
        yield _counter(
            "locust_connect_failures", "Connections that could not be made.", ("run", "model", "error"),
            (((run, *key), count) for key, count in measured.connect_failures.items()),
        )  # fmt: skip
        yield _counter(
            "locust_no_response", "Requests that had no response when the run ended.", ("run", "model"),
            (((run, model), count) for model, count in measured.no_response.items()),
        )  # fmt: skip
        runner = self.environment.runner
        users = GaugeMetricFamily("locust_users", "Users running now.", labels=["run"])
        users.add_metric([run], runner.user_count if runner else 0)
        yield users
        cpu = GaugeMetricFamily(
            "locust_worker_cpu_ratio", "Share of a core that the process used.", labels=["run", "worker"]
        )
        for worker, ratio in self.cpu_ratios().items():
            cpu.add_metric([run, worker], ratio)
        yield cpu

    def text(self) -> bytes:
        """Return the exposition, in Prometheus's text format. Called for each scrape."""
        self._scrapes += 1
        return generate_latest(self._registry)

    def _serve(self) -> None:
        options = options_of(self.environment)
        page = self.environment.web_ui
        if page and page.app:
            page.app.add_url_rule("/metrics", "lab_metrics", self._flask_view)
        elif options.metrics_port:
            WSGIServer((options.metrics_host, options.metrics_port), self._wsgi, log=None).start()

    def _flask_view(self) -> tuple[bytes, dict[str, str]]:
        return self.text(), {"Content-Type": CONTENT_TYPE_LATEST}

    def _wsgi(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/metrics":
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"only /metrics is here\n"]
        start_response("200 OK", [("Content-Type", CONTENT_TYPE_LATEST)])
        return [self.text()]

    def _finish(self, **_: object) -> None:
        if self._finished:  # a second signal
            return
        self._finished = True
        # Users may find out at their very end that something went wrong (`RetryingUser.on_stop`); ended by
        # a signal, Locust would decide on its exit code before it stops them.
        if self.environment.runner:
            self.environment.runner.stop()
        self._write_result()
        if options_of(self.environment).watched:
            self._wait_for_scrapes(LAST_SCRAPES, LAST_SCRAPES_SECONDS)

    def _wait_for_scrapes(self, number: int, seconds: float) -> None:
        """Return after so many more scrapes, or so many seconds."""
        enough, deadline = self._scrapes + number, time.monotonic() + seconds
        while self._scrapes < enough and time.monotonic() < deadline:
            gevent.sleep(POLL_SECONDS)

    def result(self) -> dict[str, Any]:
        """Return everything measured, and how long it took, as JSON."""
        return {
            **self.merged().snapshot(),
            "seconds": (self._ended or time.monotonic()) - self._began if self._began else 0.0,
            "cpu": self.cpu_ratios("cpu_mean"),
            "target": target_of(self.environment)._asdict(),
            "run": self._run,
            "began": self._began,  # CLOCK_MONOTONIC, which all processes of a machine share
        }

    def _write_result(self) -> None:
        path = options_of(self.environment).result_file
        if path:
            new = Path(f"{path}.new")
            new.write_text(json.dumps(self.result()), encoding="utf-8")
            new.replace(path)


def _stop_before_quit(master: MasterRunner) -> None:
    """Have a master wait for its workers' last users before it ends them.

    Locust's own `quit` gives them half a second: requests without a response would not be reported.
    """
    quit_now = master.quit

    def stop_and_quit() -> None:
        master.stop()
        quit_now()

    master.quit = stop_and_quit


def _tick_forever(environment: Environment) -> None:
    while True:
        gevent.sleep(CPU_INTERVAL_SECONDS)
        CPU.tick()
        runner = environment.runner
        second = MEASURED.second() if runner and runner.state in {STATE_SPAWNING, STATE_RUNNING} else None
        if second is not None and not isinstance(runner, MasterRunner):
            second.users = runner.user_count


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
