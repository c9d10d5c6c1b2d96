"""The metrics, as families that `prometheus_client` writes out.

Every series of a closed set exists from the start with 0, so that `rate()` sees the first event too.
Imported by the admin process only; used by its one thread.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from services.metrics import kernel, slots
from services.metrics.description import Description
from services.metrics.processes import MEMORY_KINDS, Memory, Usage, tasks
from services.metrics.readings import Growth
from services.metrics.state import blocks_in_use, busy_ns, in_service, indexed_listeners, is_thread, queue_depth

Blocks = Mapping[str, slots.Block]
Series = Iterable[tuple[tuple[str, ...], float]]
"""Label values after `model`, and the figure."""

OF_WORKERS: tuple[tuple[str, str, Callable[[slots.Block], float]], ...] = (
    ("lab_connections_accepted_total", "Connections taken off an accept queue.", lambda b: b[slots.ACCEPTED]),
    ("lab_connections_open", "Connections held now.", slots.open_connections),
    ("lab_accept_wasted_wakeups_total", "Wake-ups for a connection that a neighbour had already accepted.",
     lambda b: b[slots.WASTED_WAKEUPS]),
    ("lab_queue_depth", "Connections or requests handed off and not picked up.", queue_depth),
)  # fmt: skip

OF_WORKERS_BY_LABEL: tuple[tuple[str, str, str, dict[str, int]], ...] = (
    ("lab_connections_closed_total", "Connections closed, by reason.", "reason", slots.CLOSED),
    ("lab_requests_total", "Responses, by HTTP status or the first word of memcached's reply.", "code",
     slots.REQUESTS),
    ("lab_accept_errors_total", "Failed accept() calls.", "errno", slots.ACCEPT_ERRORS),
    ("lab_idempotency_outcomes_total", "Outcomes of requests under the idempotency strategy.", "outcome",
     slots.OUTCOME),
    ("lab_bytes_total", "Bytes read from and written to clients.", "direction", slots.BYTES),
)  # fmt: skip

BOUNDS = (*(repr(bound) for bound in slots.BUCKETS_SECONDS), "+Inf")
OPTIONS_WITH_A_LABEL = frozenset({"model", "worker_kind", "workers", "protocol", "backlog"})


class Collector:
    """Reads slots, kernel and /proc at each scrape."""

    def __init__(self, description: Description, shared: slots.Slots) -> None:
        self._description = description
        self._shared = shared
        self._connections = kernel.Connections(description.port)
        self._scope = kernel.netstat_scope(description.main_pid)
        self._usage: defaultdict[str, Usage] = defaultdict(Usage)
        self._memory = Memory()
        self._busy_ns: defaultdict[str, int] = defaultdict(int)
        self._drops: defaultdict[int, Growth] = defaultdict(Growth)

    def collect(self) -> Iterator[Metric]:
        """Every family of the contract."""
        blocks = dict(blocks_in_use(self._shared))
        yield self._info()
        yield from self._from_slots(blocks)
        yield from self._from_processes(blocks)
        yield from self._from_listeners()
        yield from self._from_connections()
        figures = kernel.netstat(self._description.main_pid)
        yield self._family(
            "lab_netstat_total",
            "TcpExt counters of the network namespace: the model's own, or the host's.",
            ("scope", "counter"),
            (((self._scope, counter), figure) for counter, figure in figures.items()),
        )

    def _family(self, name: str, text: str, labels: tuple[str, ...], series: Series) -> Metric:
        """Make a counter if the name ends in `_total`, as the naming rules have it, or else a gauge."""
        kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
        family = kind(name, text, labels=("model", *labels))
        for values, figure in series:
            family.add_metric((self._description.model, *values), figure)
        return family

    def _info(self) -> Metric:
        options = self._description.current_options()
        unlabelled = {name: value for name, value in options.items() if name not in OPTIONS_WITH_A_LABEL}
        gil: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
        labels = {
            "model": self._description.model,
            "worker_kind": self._description.worker_kind,
            "workers": str(options.get("workers", self._shared.workers)),
            "protocol": str(options.get("protocol", "")),
            "backlog": str(options.get("backlog", "")),
            "options": json.dumps(unlabelled, sort_keys=True, default=str),
            "python": platform.python_version(),
            "gil": "on" if gil else "off",
        }
        return InfoMetricFamily("lab", "How the model was started.", value=labels)

    def _from_slots(self, blocks: Blocks) -> Iterator[Metric]:
        for name, text, figure in OF_WORKERS:
            yield self._family(
                name, text, ("worker",), (((worker,), figure(block)) for worker, block in blocks.items())
            )
        yield self._family(
            "lab_loop_busy_seconds_total", "Time that the event loop was not waiting.", ("worker",), self._busy(blocks)
        )
        for name, text, label, members in OF_WORKERS_BY_LABEL:
            series = (
                ((worker, member), block[slot]) for worker, block in blocks.items() for member, slot in members.items()
            )
            yield self._family(name, text, ("worker", label), series)
        serving = {worker for worker, block in in_service(self._shared).items() if block[slots.STATE] == slots.SERVING}
        yield self._family(
            "lab_worker_serving", "1 while requests are its part; main's is 0 where there are workers.", ("worker",),
            (((worker,), worker in serving) for worker in blocks),
        )  # fmt: skip
        restarts = sum(block[slots.RESTARTS] for block in blocks.values())
        yield self._family("lab_worker_restarts_total", "Workers that died and were replaced.", (), [((), restarts)])
        yield self._stages(blocks)

    def _busy(self, blocks: Blocks) -> Series:
        now_ns = time.monotonic_ns()
        for worker, block in blocks.items():
            # An iteration that ended between the readings of two slots is in neither, and less than before would look
            # as if the counter had begun anew.
            self._busy_ns[worker] = max(self._busy_ns[worker], busy_ns(block, now_ns))
            yield (worker,), self._busy_ns[worker] / 1e9

    def _stages(self, blocks: Blocks) -> Metric:
        family = HistogramMetricFamily(
            "lab_stage_duration_seconds",
            "Where a request's time goes; sampled, each sample weighted by the requests it stands for.",
            labels=("model", "worker", "stage"),
        )
        for worker, block in blocks.items():
            for stage in slots.STAGES:
                count = 0
                buckets: list[tuple[str, float]] = []
                for bound, slot in zip(BOUNDS, slots.STAGE_BUCKETS[stage], strict=True):
                    count += block[slot]
                    buckets.append((bound, count))
                seconds = block[slots.STAGE_SUM_NS[stage]] / 1e9
                family.add_metric((self._description.model, worker, stage), buckets, seconds)
        return family

    def _from_processes(self, blocks: Blocks) -> Iterator[Metric]:
        owned = self._owned_tasks(blocks)
        for worker, (pid, tids) in owned.items():
            self._usage[worker].read(pid, tids)
        usage = {worker: self._usage[worker] for worker in blocks}
        yield self._family(
            "lab_worker_cpu_seconds_total", "CPU time, user and system.", ("worker",),
            (((worker,), used.cpu_seconds) for worker, used in usage.items()),
        )  # fmt: skip
        yield self._family(
            "lab_worker_context_switches_total", "Times that the CPU was given up to wait, or taken away.",
            ("worker", "kind"),
            (((worker, kind), n) for worker, used in usage.items() for kind, n in used.context_switches.items()),
        )  # fmt: skip
        memory = self._memory.figures([pid for pid, _ in owned.values()])
        yield self._family(
            "lab_worker_memory_bytes", "Memory of a process; that of thread workers is main's.", ("worker", "kind"),
            (((worker, kind), memory[pid][kind]) for worker, (pid, _) in owned.items() for kind in MEMORY_KINDS
             if worker == "main" or pid != self._description.main_pid),
        )  # fmt: skip

    def _owned_tasks(self, blocks: Blocks) -> dict[str, tuple[int, frozenset[int]]]:
        """Process and threads of each worker; main has every thread of its process that is no worker."""
        main_pid = self._description.main_pid
        threads = {
            worker: frozenset({block[slots.TID]})
            for worker, block in blocks.items()
            if worker != "main" and is_thread(block, self._description)
        }
        owned = {"main": (main_pid, tasks(main_pid) - frozenset().union(*threads.values()))}
        for worker, block in blocks.items():
            if worker in threads:
                owned[worker] = (main_pid, threads[worker])
            elif worker != "main":
                owned[worker] = (block[slots.PID], tasks(block[slots.PID]))
        return owned

    def _from_listeners(self) -> Iterator[Metric]:
        found = indexed_listeners(self._description.port, self._shared)
        for number, listener in found.items():
            self._drops[number].add({listener.cookie: listener.drops})
        labels = ("listener",)
        yield self._family(
            "lab_accept_queue_length", "Connections that wait for accept().", labels,
            (((str(number),), listener.queue) for number, listener in found.items()),
        )  # fmt: skip
        yield self._family(
            "lab_accept_queue_limit", "The queue is full above this: min(backlog, somaxconn).", labels,
            (((str(number),), listener.limit) for number, listener in found.items()),
        )  # fmt: skip
        yield self._family(
            "lab_listener_drops_total", "Connection attempts that the kernel dropped at this listener.", labels,
            (((str(number),), drops.total) for number, drops in sorted(self._drops.items())),
        )  # fmt: skip

    def _from_connections(self) -> Iterator[Metric]:
        figures = self._connections.figures()
        for name, text, figure in (
            ("lab_syn_queue_length", "Connections whose handshake is not complete (SYN_RECV).", figures.half_open),
            ("lab_socket_receive_queue_bytes", "Bytes that clients sent and nobody has read yet.",
             figures.receive_queue_bytes),
            ("lab_socket_send_queue_bytes", "Bytes written that clients have not acknowledged yet.",
             figures.send_queue_bytes),
            ("lab_tcp_receive_window_limited_seconds_total", "Time that sending waited for a client to read.",
             figures.window_limited_seconds),
        ):  # fmt: skip
            yield self._family(name, text, (), [((), figure)])
