"""The metrics, as the lines of a scrape.

Every series of a closed set exists from the start with 0, so that `rate()` sees the first event too.
Imported by the admin process only; used by its one thread.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping

from services.metrics import kernel, slots
from services.metrics.description import Description
from services.metrics.exposition import Lines, Series, family, histogram, summary
from services.metrics.processes import MEMORY_KINDS, Memory, Usage, tasks
from services.metrics.readings import Growth
from services.metrics.state import blocks_in_use, busy_ns, in_service, indexed_listeners, is_thread, queue_depth

Blocks = Mapping[str, slots.Block]

OF_WORKERS: tuple[tuple[str, str, Callable[[slots.Block], float]], ...] = (
    ("lab_connections_accepted_total", "Connections taken off an accept queue.", lambda b: b[slots.ACCEPTED]),
    ("lab_connections_open", "Connections held now.", slots.open_connections),
    ("lab_accept_wasted_wakeups_total", "Wake-ups for a connection that a neighbour had already accepted.",
     lambda b: b[slots.WASTED_WAKEUPS]),
    ("lab_queue_depth", "Connections or requests handed off and not picked up.", queue_depth),
)  # fmt: skip

OF_ALL_BY_LABEL: tuple[tuple[str, str, str, dict[str, int]], ...] = (
    ("lab_connections_closed_total", "Connections closed, by reason.", "reason", slots.CLOSED),
    ("lab_accept_errors_total", "Failed accept() calls.", "errno", slots.ACCEPT_ERRORS),
    ("lab_idempotency_outcomes_total", "Outcomes of requests under the idempotency strategy.", "outcome",
     slots.OUTCOME),
    ("lab_bytes_total", "Bytes read from and written to clients.", "direction", slots.BYTES),
)  # fmt: skip

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
        codes = slots.CODES + (slots.OWN_CODES if description.options.get("app") else ())
        self._requests = {code: slots.REQUESTS[code] for code in codes}

    def text(self) -> bytes:
        """Return a scrape."""
        return "\n".join([*self._lines(), ""]).encode()

    def _lines(self) -> Lines:
        blocks = dict(blocks_in_use(self._shared))
        yield from self._info()
        yield from self._from_slots(blocks)
        yield from self._from_processes(blocks)
        yield from self._from_listeners()
        yield from self._from_connections()
        figures = kernel.netstat(self._description.main_pid)
        yield from self._family(
            "lab_netstat_total",
            "TcpExt counters of the network namespace: the model's own, or the host's.",
            ("scope", "counter"),
            (((self._scope, counter), figure) for counter, figure in figures.items()),
        )

    def _family(self, name: str, text: str, labels: tuple[str, ...], series: Series) -> Lines:
        model = self._description.model
        return family(name, text, ("model", *labels), (((model, *values), figure) for values, figure in series))

    def _info(self) -> Lines:
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
        return family("lab_info", "How the model was started.", tuple(labels), [(tuple(labels.values()), 1)])

    def _from_slots(self, blocks: Blocks) -> Lines:
        for name, text, figure in OF_WORKERS:
            yield from self._family(
                name, text, ("worker",), (((worker,), figure(block)) for worker, block in blocks.items())
            )
        yield from self._family(
            "lab_loop_busy_seconds_total", "Time that the event loop was not waiting.", ("worker",), self._busy(blocks)
        )
        yield from self._family(
            "lab_requests_total", "Responses, by HTTP status or the first word of memcached's reply.",
            ("worker", "code"),
            (((worker, code), block[slot])
             for worker, block in blocks.items() for code, slot in self._requests.items()),
        )  # fmt: skip
        for name, text, label, members in OF_ALL_BY_LABEL:
            series = (((member,), sum(block[slot] for block in blocks.values())) for member, slot in members.items())
            yield from self._family(name, text, (label,), series)
        serving = {worker for worker, block in in_service(self._shared).items() if block[slots.STATE] == slots.SERVING}
        yield from self._family(
            "lab_worker_serving", "1 while requests are its part; main's is 0 where there are workers.", ("worker",),
            (((worker,), worker in serving) for worker in blocks),
        )  # fmt: skip
        restarts = sum(block[slots.RESTARTS] for block in blocks.values())
        yield from self._family(
            "lab_worker_restarts_total", "Workers that died and were replaced.", (), [((), restarts)]
        )
        yield from self._stages(blocks)

    def _busy(self, blocks: Blocks) -> Series:
        now_ns = time.monotonic_ns()
        for worker, block in blocks.items():
            # An iteration that ended between the readings of two slots is in neither, and less than before would look
            # as if the counter had begun anew.
            self._busy_ns[worker] = max(self._busy_ns[worker], busy_ns(block, now_ns))
            yield (worker,), self._busy_ns[worker] / 1e9

    def _stages(self, blocks: Blocks) -> Lines:
        """Write the buckets of all workers together: those of each would be 770 lines a worker."""
        model = self._description.model
        counts = {(worker, stage): _counts(block, stage) for worker, block in blocks.items() for stage in slots.STAGES}
        seconds = {(worker, stage): blocks[worker][slots.STAGE_SUM_NS[stage]] / 1e9 for worker, stage in counts}
        yield from histogram(
            "lab_stage_duration_seconds",
            "Where a request's time goes; sampled, each sample weighted by the requests it stands for.",
            ("model", "stage"),
            (
                ((model, stage), slots.STAGE_BOUNDS_SECONDS[stage],
                 [sum(column) for column in zip(*(counts[worker, stage] for worker in blocks), strict=True)],
                 sum(seconds[worker, stage] for worker in blocks))
                for stage in slots.STAGES
            ),
        )  # fmt: skip
        yield from summary(
            "lab_stage_worker_seconds", "The same by worker: how many, and how long together.",
            ("model", "worker", "stage"),
            (((model, *key), sum(found), seconds[key]) for key, found in counts.items()),
        )  # fmt: skip

    def _from_processes(self, blocks: Blocks) -> Lines:
        owned = self._owned_tasks(blocks)
        for worker, (pid, tids) in owned.items():
            self._usage[worker].read(pid, tids)
        usage = {worker: self._usage[worker] for worker in blocks}
        yield from self._family(
            "lab_worker_cpu_seconds_total", "CPU time, user and system.", ("worker",),
            (((worker,), used.cpu_seconds) for worker, used in usage.items()),
        )  # fmt: skip
        yield from self._family(
            "lab_worker_context_switches_total", "Times that the CPU was given up to wait, or taken away.",
            ("worker", "kind"),
            (((worker, kind), n) for worker, used in usage.items() for kind, n in used.context_switches.items()),
        )  # fmt: skip
        memory = self._memory.figures([pid for pid, _ in owned.values()])
        yield from self._family(
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

    def _from_listeners(self) -> Lines:
        found = indexed_listeners(self._description.port, self._shared)
        for number, listener in found.items():
            self._drops[number].add({listener.cookie: listener.drops})
        labels = ("listener",)
        yield from self._family(
            "lab_accept_queue_length", "Connections that wait for accept().", labels,
            (((str(number),), listener.queue) for number, listener in found.items()),
        )  # fmt: skip
        yield from self._family(
            "lab_accept_queue_limit", "The queue is full above this: min(backlog, somaxconn).", labels,
            (((str(number),), listener.limit) for number, listener in found.items()),
        )  # fmt: skip
        yield from self._family(
            "lab_listener_drops_total", "Connection attempts that the kernel dropped at this listener.", labels,
            (((str(number),), drops.total) for number, drops in sorted(self._drops.items())),
        )  # fmt: skip

    def _from_connections(self) -> Lines:
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
            yield from self._family(name, text, (), [((), figure)])


def _counts(block: slots.Block, stage: str) -> list[int]:
    """Return how many values lie in each bucket. The slots are neighbours, so that one slice reads them."""
    buckets = slots.STAGE_BUCKETS[stage]
    return block[buckets[0] : buckets[-1] + 1].tolist()
