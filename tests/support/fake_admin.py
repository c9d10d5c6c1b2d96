"""An admin endpoint that says what a test tells it to, in the words of docs/design.md, "Metrics"."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STAGES = ("accept_wait", "kernel_wait", "dispatch_wait", "service", "return_wait", "write")
BOUNDS = ("0.001", "0.01", "0.1", "+Inf")


@dataclass
class FakeWorker:
    state: str = "idle"
    accepted: int = 0
    connections: int = 0
    requests: int = 0
    wasted: int = 0
    queue_depth: int = 0
    cpu_seconds: float = 0.0
    voluntary: int = 0
    involuntary: int = 0


@dataclass
class FakeModel:
    model: str = "nginx"
    pid: int = 4711
    workers: dict[str, FakeWorker] = field(default_factory=lambda: {"main": FakeWorker(), "0": FakeWorker()})
    listeners: list[tuple[int, int, int]] = field(default_factory=lambda: [(0, 128, 0)])
    """Queue, limit, drops."""
    syn_queue: int = 0
    restarts: int = 0
    stages: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Stage → values in each bucket of `BOUNDS`; of the worker `0`."""

    def state(self) -> dict:
        serving = {name: worker for name, worker in self.workers.items() if name != "main"} or self.workers
        return {
            "model": self.model,
            "pid": self.pid,
            "options": {},
            "listeners": [],
            "workers": [
                {"worker": name, "kind": "process", "pid": self.pid + 1, "state": worker.state}
                for name, worker in serving.items()
            ],
        }

    def metrics(self) -> str:
        lines = ["# HELP lab_requests_total Requests.", "# TYPE lab_requests_total counter"]
        for name, worker in self.workers.items():
            label = f'model="{self.model}",worker="{name}"'
            lines += [
                f"lab_connections_accepted_total{{{label}}} {worker.accepted}",
                f"lab_connections_open{{{label}}} {worker.connections}.0",
                f'lab_requests_total{{{label},code="200"}} {worker.requests}.0',
                f'lab_requests_total{{{label},code="404"}} 0.0',
                f"lab_accept_wasted_wakeups_total{{{label}}} {worker.wasted}",
                f"lab_queue_depth{{{label}}} {worker.queue_depth}",
                f"lab_worker_cpu_seconds_total{{{label}}} {worker.cpu_seconds}",
                f'lab_worker_context_switches_total{{{label},kind="voluntary"}} {worker.voluntary}',
                f'lab_worker_context_switches_total{{{label},kind="involuntary"}} {worker.involuntary}',
            ]
        for number, (queue, limit, drops) in enumerate(self.listeners):
            label = f'model="{self.model}",listener="{number}"'
            lines += [
                f"lab_accept_queue_length{{{label}}} {queue}",
                f"lab_accept_queue_limit{{{label}}} {limit}",
                f"lab_listener_drops_total{{{label}}} {drops}",
            ]
        lines.append(f'lab_syn_queue_length{{model="{self.model}"}} {self.syn_queue}')
        lines.append(f'lab_worker_restarts_total{{model="{self.model}"}} {self.restarts}')
        for stage in STAGES:
            cumulated = 0
            for bound, values in zip(BOUNDS, self.stages.get(stage, (0,) * len(BOUNDS)), strict=True):
                cumulated += values
                label = f'model="{self.model}",stage="{stage}",le="{bound}"'
                lines.append(f"lab_stage_duration_seconds_bucket{{{label}}} {cumulated}")
            lines.append(f'lab_stage_duration_seconds_count{{model="{self.model}",stage="{stage}"}} {cumulated}')
        return "\n".join(lines) + "\n"


@contextlib.contextmanager
def serve_fake(model: FakeModel | None = None, port: int = 0, answers: dict[str, bytes] | None = None) -> Iterator[str]:
    """The endpoint's URL; `answers` replaces what `model` says."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if answers is not None:
                body = answers.get(self.path)
            else:
                body = {"/state": json.dumps(model.state()).encode(), "/metrics": model.metrics().encode()}[self.path]
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
