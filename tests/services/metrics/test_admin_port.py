"""The admin port over a real socket, served by a forked process."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.servers import wait_until
from support.tools import require_tool

from lab.peers.process import die_with
from services.metrics import slots
from services.metrics.admin import serve_admin
from services.metrics.description import Description
from services.metrics.state import STALLED_NS, activity

WORKERS = 3


class Admin:
    """A model with three blocks for workers, and its admin process."""

    def __init__(self, tmp_path):
        self.shared = slots.Slots(WORKERS)
        self.service = socket.create_server(("127.0.0.1", 0), backlog=5)
        self.main = self.shared.main
        self.main[slots.PID] = self.main[slots.TID] = os.getpid()
        self.main[slots.STATE] = slots.SERVING
        self.main[slots.LISTENER_INODE] = os.fstat(self.service.fileno()).st_ino
        self.options_file = tmp_path / "options.json"
        self.main_pid = os.getpid()

    def start(self):
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = listener.getsockname()
        description = Description(
            model="memcached",
            main_pid=self.main_pid,
            worker_kind="thread",
            port=self.service.getsockname()[1],
            admin_host="127.0.0.1",
            options={"workers": 2, "protocol": "auto", "backlog": 5, "assign": "round-robin"},
            options_file=self.options_file,
        )
        parent, self.pid = os.getpid(), os.fork()
        if not self.pid:
            die_with(parent, signal.SIGKILL)  # the lock of tests that are killed, which it has inherited, would live on
            serve_admin(listener, description, self.shared)
            os._exit(0)
        listener.close()

    def worker(self, number, state=slots.SERVING):
        block = self.shared.worker(number)
        block[slots.PID], block[slots.TID] = os.getpid(), threading.get_native_id()
        block[slots.STATE] = state
        return block

    def ask(self, path, method="GET"):
        with closing(http.client.HTTPConnection(*self.address, timeout=10)) as connection:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def state(self):
        status, body = self.ask("/state")
        assert status == 200
        return json.loads(body)

    def samples(self):
        status, body = self.ask("/metrics")
        assert status == 200
        return [sample for family in text_string_to_metric_families(body) for sample in family.samples]

    def metric(self, name, **labels):
        found = [s.value for s in self.samples() if s.name == name and labels.items() <= s.labels.items()]
        assert found, f"no series {name} {labels}"
        return sum(found)

    def end(self):
        self.service.close()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


@pytest.fixture
def admin(tmp_path):
    admin = Admin(tmp_path)
    yield admin
    admin.end()


@pytest.fixture
def running(admin):
    admin.worker(0)
    admin.worker(1)
    admin.start()
    return admin


def test_state_says_who_listens_and_who_serves(running):
    state = running.state()
    port = running.service.getsockname()[1]
    assert state.keys() == {"model", "pid", "options", "listeners", "workers"}
    assert (state["model"], state["pid"]) == ("memcached", os.getpid())
    assert state["options"]["workers"] == 2
    assert state["listeners"] == [{"listener": 0, "address": f"127.0.0.1:{port}", "queue": 0, "limit": 5, "drops": 0}]
    assert [worker["worker"] for worker in state["workers"]] == ["0", "1"]  # the third block is in use by nobody
    assert state["workers"][0].keys() == {
        "worker", "kind", "pid", "tid", "state", "connections", "queue_depth", "requests"
    }  # fmt: skip
    assert state["workers"][0]["kind"] == "thread"


def test_state_shows_figures_as_they_change(running):
    block = running.shared.worker(1)
    block[slots.OPEN] = 4
    block[slots.HANDED_OFF], block[slots.PICKED_UP] = 9, 7
    block[slots.REQUESTS["200"]], block[slots.REQUESTS["STORED"]] = 10, 5
    worker = running.state()["workers"][1]
    assert (worker["connections"], worker["queue_depth"], worker["requests"]) == (4, 2, 15)
    running.worker(2)
    assert len(running.state()["workers"]) == 3


def test_state_where_main_has_no_workers_shows_main(admin):
    admin.start()
    (worker,) = admin.state()["workers"]
    assert (worker["worker"], worker["kind"], worker["state"]) == ("main", "process", "idle")


def test_state_follows_options_that_main_writes(running):
    running.options_file.write_text('{"workers": 3, "assign": "least-connections"}')
    assert running.state()["options"] == {"workers": 3, "assign": "least-connections"}
    assert running.metric("lab_info", workers="3") == 1
    running.options_file.write_text('{"workers": ')
    assert running.state()["options"]["workers"] == 2


@pytest.mark.parametrize(
    ("life", "busy_for_ns", "expected"),
    [
        (slots.STARTING, 0, "starting"),
        (slots.SERVING, 0, "idle"),
        (slots.SERVING, 1000, "busy"),
        (slots.SERVING, STALLED_NS + 1000, "stalled"),
        (slots.DRAINING, 1000, "draining"),
        (slots.CRASHED, 1000, "crashed"),
        (slots.GONE, 0, "gone"),
    ],
)
def test_activity_of_a_worker(life, busy_for_ns, expected):
    block = slots.Slots(1).worker(0)
    now = time.monotonic_ns()
    block[slots.STATE] = life
    block[slots.BUSY_SINCE] = now - busy_for_ns if busy_for_ns else 0
    assert activity(block, now) == expected


def test_healthz_turns_bad_when_a_worker_crashes(running):
    assert running.ask("/healthz") == (200, "ok\n")
    running.worker(1, slots.CRASHED)
    assert running.ask("/healthz") == (503, "worker 1 crashed\n")


def test_healthz_stays_good_while_a_worker_drains_or_is_replaced(running):
    running.worker(0, slots.DRAINING)
    running.worker(1, slots.GONE)
    assert running.ask("/healthz") == (200, "ok\n")


def test_healthz_turns_bad_when_main_is_gone(admin):
    main = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    admin.main_pid = main.pid
    admin.start()
    assert admin.ask("/healthz")[0] == 200
    main.communicate(b"\n")
    assert admin.ask("/healthz") == (503, "main is gone\n")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/metrics/x", 404), ("POST", "/state", 405), ("DELETE", "/metrics", 405),
     ("GET", "/healthz?verbose", 200), ("HEAD", "/metrics", 200)],
)  # fmt: skip
def test_admin_port_answers_only_what_it_has(running, method, path, status):
    assert running.ask(path, method)[0] == status


@pytest.mark.parametrize("head", [b"nonsense\r\n\r\n", b"GET /state HTTP/2.0\r\n\r\n", b"GET /state\r\n\r\n"])
def test_admin_port_refuses_what_is_not_http(running, head):
    with socket.create_connection(running.address, timeout=10) as client:
        client.sendall(head)
        assert client.recv(1000).startswith(b"HTTP/1.1 400 ")
        assert client.recv(1000) == b""


def test_admin_port_refuses_a_head_without_end(running):
    with socket.create_connection(running.address, timeout=10) as client:
        client.sendall(b"GET /state HTTP/1.1\r\n" + b"X-Long: y\r\n" * 4000)
        assert client.recv(1000).startswith(b"HTTP/1.1 431 ")


def test_admin_port_keeps_a_connection_for_the_next_scrape(running):
    with closing(http.client.HTTPConnection(*running.address, timeout=10)) as connection:
        for _ in range(3):
            connection.request("GET", "/healthz")
            answer = connection.getresponse()
            assert answer.read() == b"ok\n"
            assert not answer.will_close


def test_admin_port_answers_while_other_clients_are_slow(running):
    slow = [socket.create_connection(running.address) for _ in range(30)]
    for client in slow:
        client.sendall(b"GET /met")
    assert running.ask("/healthz")[0] == 200
    for client in slow:
        client.close()


def test_admin_port_serves_only_so_many_at_once_and_recovers(running):
    clients = [socket.create_connection(running.address, timeout=10) for _ in range(70)]
    assert clients[-1].recv(1) == b""
    for client in clients:
        client.close()
    wait_until(lambda: answers(running))


def answers(admin):
    try:
        return admin.ask("/healthz")[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def test_admin_process_ignores_sigint(running):
    assert running.ask("/healthz")[0] == 200
    os.kill(running.pid, signal.SIGINT)
    assert running.ask("/healthz")[0] == 200


def test_main_and_workers_do_not_load_what_only_the_admin_process_needs():
    program = "import sys, services.__main__; print({'asyncio', 'prometheus_client'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "set()"


# The metric contract.

CONTRACT = {
    "lab_info": ["worker_kind", "workers", "protocol", "backlog", "options", "python", "gil"],
    "lab_connections_accepted_total": ["worker"],
    "lab_worker_serving": ["worker"],
    "lab_connections_open": ["worker"],
    "lab_connections_closed_total": ["worker", "reason"],
    "lab_requests_total": ["worker", "code"],
    "lab_stage_duration_seconds_bucket": ["worker", "stage", "le"],
    "lab_stage_duration_seconds_sum": ["worker", "stage"],
    "lab_stage_duration_seconds_count": ["worker", "stage"],
    "lab_accept_wasted_wakeups_total": ["worker"],
    "lab_accept_errors_total": ["worker", "errno"],
    "lab_queue_depth": ["worker"],
    "lab_worker_cpu_seconds_total": ["worker"],
    "lab_worker_context_switches_total": ["worker", "kind"],
    "lab_worker_memory_bytes": ["worker", "kind"],
    "lab_loop_busy_seconds_total": ["worker"],
    "lab_idempotency_outcomes_total": ["worker", "outcome"],
    "lab_bytes_total": ["worker", "direction"],
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
"""DESIGN.md, section 4: name → labels besides `model`."""


def test_metrics_are_the_contract_from_the_first_scrape(running):
    found = {sample.name: sample.labels for sample in running.samples()}
    assert {name: sorted(labels) for name, labels in found.items()} == {
        name: sorted(["model", *labels]) for name, labels in CONTRACT.items()
    }


def test_metrics_of_closed_sets_are_all_there_and_0(running):
    samples = running.samples()
    for name, label, members in (
        ("lab_requests_total", "code", slots.CODES),
        ("lab_connections_closed_total", "reason", slots.CLOSE_REASONS),
        ("lab_accept_errors_total", "errno", slots.ACCEPT_ERRNOS),
        ("lab_idempotency_outcomes_total", "outcome", slots.OUTCOMES),
        ("lab_bytes_total", "direction", slots.DIRECTIONS),
        ("lab_stage_duration_seconds_count", "stage", slots.STAGES),
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


def test_metrics_buckets_are_cumulative(running):
    block = running.shared.worker(0)
    for number, slot in enumerate(slots.STAGE_BUCKETS["service"]):
        block[slot] = number + 1
    block[slots.STAGE_SUM_NS["service"]] = 2_000_000_000
    labels = {"worker": "0", "stage": "service"}
    assert running.metric("lab_stage_duration_seconds_bucket", le="1e-05", **labels) == 1
    assert running.metric("lab_stage_duration_seconds_bucket", le="2.5e-05", **labels) == 3
    assert running.metric("lab_stage_duration_seconds_bucket", le="+Inf", **labels) == 210
    assert running.metric("lab_stage_duration_seconds_count", **labels) == 210
    assert running.metric("lab_stage_duration_seconds_sum", **labels) == 2


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
