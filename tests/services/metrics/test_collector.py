"""The metrics, as a scraper reads them from the admin process."""

import contextlib
import os
import random
import socket
import subprocess
import time

import pytest
from support.servers import wait_until
from support.tools import require_tool

from lab.top.readings import quantile
from services.metrics import slots
from services.metrics.collector import Collector
from services.metrics.description import Description
from services.metrics.sampling import Sampler

CONTRACT = {
    "lab_info": ["worker_kind", "workers", "protocol", "backlog", "options", "python", "gil"],
    "lab_connections_accepted_total": ["worker"],
    "lab_worker_serving": ["worker"],
    "lab_connections_open": ["worker"],
    "lab_connections_closed_total": ["reason"],
    "lab_requests_total": ["worker", "code"],
    "lab_stage_duration_seconds_bucket": ["stage", "le"],
    "lab_stage_duration_seconds_sum": ["stage"],
    "lab_stage_duration_seconds_count": ["stage"],
    "lab_stage_worker_seconds_sum": ["worker", "stage"],
    "lab_stage_worker_seconds_count": ["worker", "stage"],
    "lab_accept_wasted_wakeups_total": ["worker"],
    "lab_accept_errors_total": ["errno"],
    "lab_queue_depth": ["worker"],
    "lab_worker_cpu_seconds_total": ["worker"],
    "lab_worker_context_switches_total": ["worker", "kind"],
    "lab_worker_memory_bytes": ["worker", "kind"],
    "lab_loop_busy_seconds_total": ["worker"],
    "lab_idempotency_outcomes_total": ["outcome"],
    "lab_bytes_total": ["direction"],
    "lab_worker_restarts_total": [],
    "lab_accept_queue_length": ["listener"],
    "lab_accept_queue_limit": ["listener"],
    "lab_listener_drops_total": ["listener"],
    "lab_syn_queue_length": [],
    "lab_socket_receive_queue_bytes": [],
    "lab_socket_send_queue_bytes": [],
    "lab_tcp_receive_window_limited_seconds_total": [],
    "lab_netstat_total": ["scope", "counter"],
}
"""Name → labels besides `model`."""


def test_metrics_are_the_contract_from_the_first_scrape(running):
    found = {sample.name: sample.labels for sample in running.samples()}
    assert {name: sorted(labels) for name, labels in found.items()} == {
        name: sorted(["model", *labels]) for name, labels in CONTRACT.items()
    }


def test_metrics_of_closed_sets_are_all_there_and_0(running):
    samples = running.samples()
    for name, label, members in (
        ("lab_connections_closed_total", "reason", slots.CLOSE_REASONS),
        ("lab_accept_errors_total", "errno", slots.ACCEPT_ERRNOS),
        ("lab_idempotency_outcomes_total", "outcome", slots.OUTCOMES),
        ("lab_bytes_total", "direction", slots.DIRECTIONS),
        ("lab_stage_duration_seconds_count", "stage", slots.STAGES),
    ):
        found = {s.labels[label]: s.value for s in samples if s.name == name}
        assert found == dict.fromkeys(members, 0), name
    for name, label, members in (
        ("lab_requests_total", "code", slots.CODES),
        ("lab_stage_worker_seconds_count", "stage", slots.STAGES),
    ):
        for worker in ("main", "0", "1"):
            found = {s.labels[label]: s.value for s in samples if s.name == name and s.labels["worker"] == worker}
            assert found == dict.fromkeys(members, 0), name


def test_metrics_show_what_the_slots_hold(running):
    block = running.shared.worker(0)
    block[slots.REQUESTS["404"]] = 3
    block[slots.BUSY_NS] = 1_500_000_000
    block[slots.HANDED_OFF] = 5
    running.main[slots.RESTARTS] = 2
    assert running.metric("lab_requests_total", worker="0", code="404") == 3
    assert running.metric("lab_loop_busy_seconds_total", worker="0") == 1.5
    assert running.metric("lab_queue_depth", worker="0") == 5
    assert running.metric("lab_worker_restarts_total") == 2


def test_metrics_show_the_turn_that_is_under_way(running):
    block = running.shared.worker(0)
    block[slots.BUSY_NS] = 1_500_000_000
    block[slots.BUSY_SINCE] = time.monotonic_ns() - 20_000_000_000
    stuck = running.metric("lab_loop_busy_seconds_total", worker="0")
    assert stuck >= 21.5
    assert running.metric("lab_loop_busy_seconds_total", worker="0") > stuck


def test_metrics_busy_time_never_falls(running):
    block = running.shared.worker(0)
    block[slots.BUSY_SINCE] = time.monotonic_ns() - 20_000_000_000
    before = running.metric("lab_loop_busy_seconds_total", worker="0")
    block[slots.BUSY_SINCE] = 0  # and what this turn took is not added up yet
    assert running.metric("lab_loop_busy_seconds_total", worker="0") == before
    block[slots.BUSY_NS] = 30_000_000_000
    assert running.metric("lab_loop_busy_seconds_total", worker="0") == 30


@pytest.mark.parametrize("state", [slots.STARTING, slots.CRASHED, slots.GONE, slots.RETIRED])
def test_metrics_a_loop_that_has_ended_is_not_busy(running, state):
    running.worker(0, state)[slots.BUSY_SINCE] = time.monotonic_ns() - 20_000_000_000
    assert running.metric("lab_loop_busy_seconds_total", worker="0") == 0


def test_metrics_buckets_are_cumulative_and_of_all_workers(running):
    buckets = slots.STAGE_BUCKETS["service"]
    for number, slot in enumerate(buckets):
        running.shared.worker(0)[slot] = number + 1
        running.shared.worker(1)[slot] = 10
    running.shared.worker(0)[slots.STAGE_SUM_NS["service"]] = 2_000_000_000
    running.shared.worker(1)[slots.STAGE_SUM_NS["service"]] = 1_000_000_000
    n = len(buckets)
    of_0, of_1 = n * (n + 1) // 2, 10 * n
    assert running.metric("lab_stage_duration_seconds_bucket", le="1e-05", stage="service") == 11
    assert running.metric("lab_stage_duration_seconds_bucket", le="1.1e-05", stage="service") == 11 + 12
    assert running.metric("lab_stage_duration_seconds_bucket", le="+Inf", stage="service") == of_0 + of_1
    assert running.metric("lab_stage_duration_seconds_count", stage="service") == of_0 + of_1
    assert running.metric("lab_stage_duration_seconds_sum", stage="service") == 3
    assert running.metric("lab_stage_worker_seconds_count", stage="service", worker="0") == of_0
    assert running.metric("lab_stage_worker_seconds_sum", stage="service", worker="1") == 1


def quantile_of(samples, stage, share):
    """PromQL's histogram_quantile over all that there is."""
    buckets = [
        (float(s.labels["le"]), s.value)
        for s in samples
        if s.name == "lab_stage_duration_seconds_bucket" and s.labels["stage"] == stage
    ]
    return quantile(share, sorted(buckets))


@pytest.mark.parametrize("seconds", [1.05e-5, 0.000_11, 0.0011, 0.0047, 0.02, 0.33, 1.0, 1.99])
@pytest.mark.parametrize("stage", ["service", "kernel_wait", "write"])
def test_metrics_quantiles_are_within_10_percent(running, stage, seconds):
    sampler = Sampler(running.shared.worker(0), "1")
    for number in range(100):
        sampler.record((stage, round(seconds * 1e9), 1 + number))
    sampler.publish()
    samples = running.samples()
    for share in (0.01, 0.5, 0.9, 0.99, 0.999):
        assert quantile_of(samples, stage, share) == pytest.approx(seconds, rel=0.1), share


def test_metrics_quantiles_of_mixed_times_are_within_10_percent(running):
    chance = random.Random(5)
    times = sorted(min(1.9, max(1.1e-5, chance.lognormvariate(-7, 2))) for _ in range(20_000))
    samplers = [Sampler(running.shared.worker(number), "1") for number in (0, 1)]
    for number, seconds in enumerate(times):
        samplers[number % 2].record(("service", round(seconds * 1e9), 1))
    for sampler in samplers:
        sampler.publish()
    samples = running.samples()
    for share in (0.01, 0.5, 0.9, 0.99, 0.999):
        true = times[round(share * len(times)) - 1]
        assert quantile_of(samples, "service", share) == pytest.approx(true, rel=0.1), share


@pytest.mark.parametrize(("milliseconds", "most"), [(0, 0.01), (1, 1.1), (2, 2.2), (4, 4.4), (1000, 1100)])
def test_metrics_accept_wait_is_told_to_the_millisecond(running, milliseconds, most):
    sampler = Sampler(running.shared.worker(0), "1")
    sampler.record(("accept_wait", milliseconds * 1_000_000, 1))
    sampler.publish()
    samples = running.samples()
    assert 0.9 * milliseconds <= 1000 * quantile_of(samples, "accept_wait", 0.01)
    assert 1000 * quantile_of(samples, "accept_wait", 0.99) <= most


MOST_LINES = 1200
MOST_CPU_SECONDS = 0.04
"""Measured: 3 ms. The bound of 10 ms is for a machine of its own; here others run at the same time."""


@pytest.fixture
def four_listening():
    """The collector of `reuseport` with four workers: it has the most series, since each worker listens."""
    shared = slots.Slots(4)
    with contextlib.ExitStack() as stack:
        port = 0
        for number, block in enumerate([shared.main, *(shared.worker(number) for number in range(4))]):
            block[slots.PID] = block[slots.TID] = os.getpid()
            block[slots.STATE] = slots.SERVING
            if number:
                listener = stack.enter_context(socket.socket())
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                listener.bind(("127.0.0.1", port))
                listener.listen()
                port = listener.getsockname()[1]
                block[slots.LISTENER_INODE] = os.fstat(listener.fileno()).st_ino
        options = {"workers": 4, "protocol": "auto", "backlog": 5}
        yield Collector(Description("reuseport", 1, "process", port, "127.0.0.1", options), shared)


def test_metrics_of_four_workers_on_as_many_listeners_are_1200_lines_at_most(four_listening):
    text = four_listening.text().decode()
    assert len(text.splitlines()) <= MOST_LINES
    assert text.count("lab_worker_memory_bytes{") == 3 * 5
    assert text.count("lab_accept_queue_length{") == 4


def test_metrics_of_four_workers_cost_little_processor_time(four_listening):
    four_listening.text()  # fills the caches
    begun = time.thread_time()
    for _ in range(10):
        four_listening.text()
    assert (time.thread_time() - begun) / 10 < MOST_CPU_SECONDS


def test_metrics_of_a_crashed_worker_stay_and_of_one_never_started_are_absent(running):
    running.worker(1, slots.CRASHED)[slots.ACCEPTED] = 7
    workers = {s.labels["worker"]: s.value for s in running.samples() if s.name == "lab_connections_accepted_total"}
    assert workers == {"main": 0, "0": 0, "1": 7}


def serving(admin):
    return {s.labels["worker"]: s.value for s in admin.samples() if s.name == "lab_worker_serving"}


def test_metrics_say_who_serves(running):
    assert serving(running) == {"main": 0, "0": 1, "1": 1}
    running.worker(0, slots.RETIRED)
    running.worker(2, slots.STARTING)
    assert serving(running) == {"main": 0, "0": 0, "1": 1, "2": 0}
    running.worker(1, slots.CRASHED)
    assert serving(running) == {"main": 0, "0": 0, "1": 0, "2": 0}  # main does not step in


def test_metrics_say_that_main_serves_where_it_is_alone(admin):
    admin.worker(0, slots.RETIRED)
    admin.start()
    assert serving(admin) == {"main": 1, "0": 0}
    admin.worker(0)
    assert serving(admin) == {"main": 0, "0": 1}


def test_metrics_show_memory_of_thread_workers_once(running):
    owners = {s.labels["worker"] for s in running.samples() if s.name == "lab_worker_memory_bytes"}
    assert owners == {"main"}


def test_metrics_show_memory_and_cpu_of_process_workers(running):
    block = running.worker(1)
    block[slots.PID] = block[slots.TID] = running.pid
    assert running.metric("lab_worker_memory_bytes", worker="1", kind="rss") > 0
    before = running.metric("lab_worker_cpu_seconds_total", worker="1")
    wait_until(lambda: running.metric("lab_worker_cpu_seconds_total", worker="1") > before)
    assert running.metric("lab_worker_context_switches_total", worker="1") > 0


def test_metrics_show_the_listeners_queue(running):
    clients = [socket.create_connection(running.service.getsockname()) for _ in range(4)]
    wait_until(lambda: running.metric("lab_accept_queue_length", listener="0") == 4)
    assert running.metric("lab_accept_queue_limit", listener="0") == 5
    for client in clients:
        client.close()


def test_metrics_number_listeners_by_the_worker_that_opened_them(admin):
    with socket.socket() as second:
        admin.service.close()
        admin.service = socket.create_server(("127.0.0.1", 0), backlog=5, reuse_port=True)
        second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        second.bind(admin.service.getsockname())
        second.listen(9)
        admin.main[slots.LISTENER_INODE] = 0
        admin.worker(2)[slots.LISTENER_INODE] = os.fstat(second.fileno()).st_ino
        admin.worker(1)[slots.LISTENER_INODE] = os.fstat(admin.service.fileno()).st_ino
        admin.start()
        assert admin.metric("lab_accept_queue_limit", listener="1") == 5
        assert admin.metric("lab_accept_queue_limit", listener="2") == 9
        assert [found["listener"] for found in admin.state()["listeners"]] == [1, 2]


def test_metrics_pass_promtool_without_a_complaint(running):
    _, text = running.ask("/metrics")
    check = subprocess.run(
        [require_tool("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (check.returncode, check.stdout + check.stderr) == (0, "")
