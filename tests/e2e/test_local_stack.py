"""The local place as a new user meets it: up, load, figures, down; and what happens when things go wrong.

The tests share one stack and leave it up, each with its own state checked first, so that they can run alone.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from support import plain_http
from support.stack import PAGE_NAME, Stack, accepts, eventually

from lab import settings
from services.options import MODELS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

# docs/design.md, "Metrics". Histograms are asked for by their count.
MODEL_METRICS = (
    "lab_connections_accepted_total",
    "lab_connections_open",
    "lab_connections_closed_total",
    "lab_requests_total",
    "lab_stage_duration_seconds_count",
    "lab_accept_wasted_wakeups_total",
    "lab_accept_errors_total",
    "lab_queue_depth",
    "lab_worker_serving",
    "lab_worker_cpu_seconds_total",
    "lab_worker_context_switches_total",
    "lab_worker_memory_bytes",
    "lab_loop_busy_seconds_total",
    "lab_idempotency_outcomes_total",
    "lab_bytes_total",
    "lab_worker_restarts_total",
    "lab_accept_queue_length",
    "lab_accept_queue_limit",
    "lab_listener_drops_total",
    "lab_syn_queue_length",
    "lab_socket_receive_queue_bytes",
    "lab_socket_send_queue_bytes",
    "lab_tcp_receive_window_limited_seconds_total",
    "lab_netstat_total",
    "lab_info",
)
LOCUST_METRICS = (
    "locust_requests_total",
    "locust_response_seconds_count",
    "locust_connect_seconds_count",
    "locust_connect_failures_total",
    "locust_users",
    "locust_worker_cpu_ratio",
    "locust_failures_total",
)


def assert_nothing_left(stack: Stack) -> None:
    assert stack.processes() == []
    assert [variable for variable, port in stack.ports.items() if accepts(port)] == []
    assert [path for path in stack.folder.rglob("*") if path.is_socket() or path.suffix == ".pid"] == []


@pytest.fixture
def up(stack: Stack) -> Stack:
    """The stack, up."""
    stack.ensure_up([*MODELS, "prometheus", "locust", "console"])
    return stack


@pytest.fixture(autouse=True, scope="module")
def _tools(require_tool) -> None:
    require_tool("make")
    require_tool("prometheus")


def test_up_with_a_taken_port_names_its_variable_and_holder_and_starts_nothing(stack):
    stack.make("lab-down")
    with socket.create_server(("127.0.0.1", stack.port("ramcloud"))):
        done = stack.make("lab-up")
        output = done.stdout + done.stderr
        assert done.returncode != 0
        assert f"port {stack.port('ramcloud')}" in output
        assert "LAB_RAMCLOUD_PORT" in output
        assert f"pid {os.getpid()}" in output
        assert stack.processes() == []


def test_up_starts_every_part_and_says_where(up):
    done = up.make("lab-up")
    for part in (*MODELS, "prometheus", "locust", "console"):
        assert re.search(rf"^ *{part} +running +http://127\.0\.0\.1:{up.port(part)}$", done.stdout, re.MULTILINE), part
        assert accepts(up.port(part))
    assert re.search(r"^ *grafana +absent +\w+", done.stdout, re.MULTILINE)


def test_live_page_sees_every_model(up):
    assert eventually(lambda: up.seen_on_the_page() == set(MODELS))


def test_live_page_may_be_called_by_the_name_that_it_is_given(up):
    assert (up.page_under(PAGE_NAME), up.page_under("evil.example")) == (200, 403)


def test_second_up_changes_nothing(up):
    before = up.pids()
    done = up.make("lab-up")
    assert done.returncode == 0
    assert "changed=0" in done.stdout
    assert up.pids() == before


def test_load_reaches_the_model_that_it_names(up):
    for model in MODELS:
        done = up.make("load", f"MODEL={model}", "USERS=4", "RATE=4", "TIME=3")
        assert done.returncode == 0, done.stdout + done.stderr
        promql = f'sum(lab_requests_total{{model="{model}",code="200"}}) > 100'
        assert eventually(lambda promql=promql: up.query(promql)), model


def test_every_metric_of_the_models_has_data_for_every_model(up):
    missing = {}
    for metric in MODEL_METRICS:
        eventually(lambda metric=metric: up.models_with(metric) == set(MODELS), 10)
        if absent := set(MODELS) - up.models_with(metric):
            missing[metric] = absent
    assert missing == {}


def test_every_metric_of_locust_has_data_under_load_that_works_and_load_that_fails(up):
    up.swarm("KeepAliveUser", host=up.url("nginx"))
    assert eventually(lambda: up.query("sum(locust_requests_total) > 100"))
    up.stop_swarm()
    up.swarm("KeepAliveUser", host=up.url("grafana"))  # nobody listens there
    assert eventually(lambda: up.query("sum(locust_connect_failures_total) > 0"))
    up.stop_swarm()
    # Each load is a run with series of its own, which end with it.
    kept = {metric: f"max_over_time({metric}[10m])" for metric in LOCUST_METRICS}
    missing = [metric for metric, query in kept.items() if not eventually(lambda query=query: up.query(query), 10)]
    assert missing == []


def test_prometheus_scrapes_every_part_under_its_name(up):
    def found() -> set[tuple[str, str]]:
        return {(row["metric"]["job"], row["metric"]["instance"]) for row in up.query("up == 1")}

    assert eventually(lambda: found() == {*(("models", model) for model in MODELS), ("locust", "locust")}), found()


def test_changed_option_restarts_only_the_model_that_it_concerns(up):
    before = up.pids()
    changed = '{"lab_model_options": {"nodejs": {}, "memcached": {}, "ramcloud": {}, "nginx": {"wakeup": "herd"}, "reuseport": {}}}'
    done = up.up_down("up", "auto", ["--extra-vars", changed])
    assert done.returncode == 0, done.stdout + done.stderr
    after = up.pids()
    assert {part for part in before if before[part] != after[part]} == {"nginx"}
    assert up.state("nginx")["options"]["wakeup"] == "herd"
    assert up.make("lab-up").returncode == 0  # as it was, for the tests that follow


OWN_APPLICATION = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"of my own"]
"""


def test_application_of_ones_own_is_served_by_every_model(up, tmp_path):
    (tmp_path / "shop.py").write_text(OWN_APPLICATION)
    done = up.lab("up", "--place", "local", "--app", "shop:app", "--app-dir", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    answers = {plain_http.get(f"http://127.0.0.1:{up.port(model)}/", timeout=10, trust_env=False) for model in MODELS}
    assert {(answer.text, answer.headers["x-model"]) for answer in answers} == {("of my own", name) for name in MODELS}
    assert up.make("lab-up").returncode == 0  # as it was, for the tests that follow
    assert up.state("nginx")["options"]["app"] == ""


def test_check_mode_changes_nothing(up):
    before = up.pids()
    done = up.up_down("up", "auto", ["--check"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert up.pids() == before


def test_up_starts_a_part_that_is_down_and_leaves_the_others(up):
    before = up.pids()
    stop = "from lab.stack import supervision; supervision.call('stopProcess', 'locust', False)"
    subprocess.run([sys.executable, "-c", stop], env=up.environment, check=True, timeout=30)
    assert eventually(lambda: not accepts(up.port("locust")))
    assert up.make("lab-up").returncode == 0
    after = up.pids()
    assert {part for part in before if before[part] != after[part]} == {"locust"}


def test_part_that_dies_is_started_again(up):
    before = up.pids()["prometheus"]
    os.kill(before, signal.SIGKILL)
    assert eventually(lambda: up.pids().get("prometheus", before) != before)
    assert eventually(lambda: accepts(up.port("prometheus")))


def test_up_after_supervisord_was_killed_starts_all_anew(up):
    before = up.pids()
    os.kill(before[""], signal.SIGKILL)
    done = up.make("lab-up")
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(before.values()).isdisjoint(up.pids().values())


def test_set_changes_a_running_model_until_it_is_started_anew(up):
    # A Prometheus that has just started would hold what was before it valid for minutes.
    now = time.time()
    assert eventually(lambda: up.query(f'timestamp(lab_info{{model="nginx"}}) > {now}'))
    before = up.pids()
    done = up.lab("set", "nginx", "workers=2", "wakeup=herd")
    assert done.stdout == "nginx now runs with --workers 2 --wakeup herd\n", done.stderr
    assert len(up.state("nginx")["workers"]) == 2
    assert up.pids() == before
    refused = up.lab("set", "nginx", "workers=none")
    assert (refused.returncode, refused.stderr) == (2, "lab: nginx: --workers 'none' is not a whole number\n")
    assert eventually(lambda: {row["metric"]["workers"] for row in up.query('lab_info{model="nginx"}')} == {"2"})


def test_paused_model_answers_nobody_until_it_is_resumed(up):
    assert "lab chaos resume nodejs" in up.lab("chaos", "pause", "nodejs").stdout
    with pytest.raises(httpx.ReadTimeout):
        plain_http.get(f"http://127.0.0.1:{up.port('nodejs')}/", timeout=httpx.Timeout(10, read=1), trust_env=False)
    assert up.state("nodejs")["model"] == "nodejs"  # who watches it is spared
    assert up.lab("chaos", "resume", "nodejs").returncode == 0
    assert plain_http.get(f"http://127.0.0.1:{up.port('nodejs')}/", timeout=10, trust_env=False).status_code == 200


def test_killed_worker_and_killed_model_are_replaced(up):
    main, workers = up.pids()["reuseport"], {worker["pid"] for worker in up.state("reuseport")["workers"]}
    assert up.lab("chaos", "kill", "reuseport", "--worker", "1").returncode == 0
    assert eventually(lambda: len({worker["pid"] for worker in up.state("reuseport")["workers"]} - workers) == 1)
    assert up.pids()["reuseport"] == main
    assert up.lab("chaos", "kill", "reuseport").returncode == 0
    assert eventually(lambda: up.pids().get("reuseport", main) != main)
    assert eventually(lambda: accepts(up.port("reuseport")))


def test_threads_cannot_be_hurt_alone(up):
    done = up.lab("chaos", "kill", "memcached", "--worker", "1")
    assert done.returncode == 2
    assert "threads" in done.stderr


def test_status_tells_what_runs_and_what_it_costs(up):
    def is_all_well() -> bool:
        done = up.make("lab-status")
        return done.returncode == 0 and str(up.pids()["reuseport"]) in done.stdout

    assert eventually(is_all_well), up.make("lab-status")  # one that was killed comes back, in its time


def test_run_of_an_experiment_is_seen_in_prometheus(up):
    def verdict_is_seen() -> bool:
        done = up.lab("run", "busiest-worker", "--quick", "--json")
        assert done.returncode in {0, 1, 3}, done.stdout + done.stderr  # any verdict: other tests may run beside it
        states = up.query('max_over_time(lab_experiment_state{experiment="busiest-worker"}[5m]) == 1')
        return json.loads(done.stdout)["verdict"] in {row["metric"]["lab_experiment_state"] for row in states}

    assert eventually(verdict_is_seen)  # a run does not wait for ever for a Prometheus that is slow
    assert eventually(lambda: not up.query('up{job="experiments"}'))


def test_down_leaves_no_process_port_or_socket(up):
    done = up.make("lab-down")
    assert done.returncode == 0, done.stdout + done.stderr
    assert_nothing_left(up)


def test_down_after_supervisord_was_killed_ends_its_children(up):
    os.kill(up.pids()[""], signal.SIGKILL)
    assert len(up.processes()) > len(MODELS)
    assert up.make("lab-down").returncode == 0
    assert_nothing_left(up)


def test_down_when_nothing_runs_is_no_error(stack):
    stack.make("lab-down")
    assert stack.make("lab-down").returncode == 0
    assert_nothing_left(stack)


def test_checkout_in_an_odd_folder_works(stack):
    copy = stack.folder / "checkout"
    for part in ("lab", "services", "loadtests", "provisioning", "dashboards"):
        shutil.copytree(settings.CHECKOUT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    stack.make("lab-down")
    variables = {**stack.environment, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}

    def lab(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "lab", *words]
        return subprocess.run(
            command, cwd=copy, env=variables, capture_output=True, text=True, timeout=300, check=False
        )

    try:
        done = lab("up", "--place", "local")
        assert done.returncode == 0, done.stdout + done.stderr
        assert {process.cwd() for process in stack.processes() if "services" in process.cmdline()} == {str(copy)}
        assert eventually(lambda: set(MODELS) <= {row["metric"].get("model") for row in stack.query("lab_info")})
    finally:
        assert lab("down").returncode == 0
    assert_nothing_left(stack)


def test_containers_without_an_engine_are_one_line(stack):
    stack.make("lab-down")
    done = stack.make("lab-up", "PLACE=containers", DOCKER_HOST=f"unix://{stack.folder}/none.sock")
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert "docker" in line.lower()
    assert line.endswith("PLACE=local")


def test_nothing_is_written_to_the_home_folder(stack, tmp_path):
    stack.make("lab-down")
    assert stack.make("lab-up", HOME=str(tmp_path)).returncode == 0
    assert stack.make("lab-down", HOME=str(tmp_path)).returncode == 0
    assert list(Path(tmp_path).iterdir()) == []


def test_ports_of_the_settings_are_all_moved_in_these_tests(stack):
    assert set(stack.ports) == {port.variable for port in settings.PORTS}
