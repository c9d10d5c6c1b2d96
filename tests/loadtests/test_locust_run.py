"""Locust itself, with our users and exporter, against a small server."""

from __future__ import annotations

import json
import subprocess
import sys

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.stack import free_ports
from support.tools import require_tool

from lab.peers import memcached
from lab.settings import CHECKOUT

NAMES = {
    "locust_requests", "locust_response_seconds", "locust_connect_seconds", "locust_failures",
    "locust_intended_response_seconds", "locust_connect_failures", "locust_no_response", "locust_users",
    "locust_worker_cpu_ratio",
}  # fmt: skip


def values(text, sample_name, **labels):
    return [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == sample_name and labels.items() <= sample.labels.items()
    ]


def total(text, sample_name, **labels):
    return sum(values(text, sample_name, **labels))


def headless(stand_in, *kinds, users=2):
    return [
        "--headless",
        "--only-summary",
        "-u",
        str(users),
        "-r",
        "100",
        "-H",
        stand_in.url,
        "--think",
        "0.01",
        *kinds,
    ]


def test_metrics_of_a_headless_run(stand_in, locust):
    run = locust(*headless(stand_in, "KeepAliveUser"))
    text = run.wait_for(lambda text: total(text, "locust_requests_total") >= 20)
    assert {family.name for family in text_string_to_metric_families(text)} == NAMES
    assert total(text, "locust_users") == 2
    assert total(text, "locust_connect_seconds_count") == 2
    buckets = values(text, "locust_response_seconds_bucket", method="GET", name="/")
    assert buckets == sorted(buckets)
    assert buckets[-1] == total(text, "locust_requests_total", method="GET", name="/")
    assert total(text, "locust_failures_total") == 0
    assert values(text, "locust_connect_failures_total", error="ConnectionRefusedError") == [0]
    assert values(text, "locust_worker_cpu_ratio", worker="0")
    assert run.finish() == 0


def test_metrics_pass_promtool(stand_in, locust):
    run = locust(*headless(stand_in, "KeepAliveUser"))
    text = run.wait_for(lambda text: total(text, "locust_requests_total") > 0)
    checked = subprocess.run(
        [require_tool("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_keep_alive_user_keeps_its_connection(stand_in, locust):
    run = locust(*headless(stand_in, "KeepAliveUser", users=3))
    run.wait_for(lambda text: total(text, "locust_requests_total") >= 60)
    assert stand_in.connections == 3


def test_connection_per_request_user_times_every_connect(stand_in, locust):
    run = locust(*headless(stand_in, "ConnectionPerRequestUser"))
    text = run.wait_for(lambda text: total(text, "locust_requests_total") >= 20)
    run.finish()
    result = json.loads(run.result_file.read_text())
    requests = sum(times["count"] for *_, times in result["responses"])
    connects = sum(times["count"] for _, times in result["connects"])
    # Stopped in the middle, each of the two users may have connected without having been answered.
    assert requests <= connects <= requests + 2
    assert stand_in.connections >= connects
    assert total(text, "locust_connect_seconds_sum") > 0


def test_refused_connects_are_no_failed_requests(stand_in, locust):
    (stand_in.port,) = free_ports(1)
    run = locust(*headless(stand_in, "KeepAliveUser"))
    text = run.wait_for(lambda text: total(text, "locust_connect_failures_total", error="ConnectionRefusedError") >= 2)
    assert total(text, "locust_requests_total") == 0
    assert total(text, "locust_failures_total") == 0
    assert run.finish() == 1


def test_bad_status_is_a_failure_with_its_number(stand_in, locust):
    stand_in.status = 503
    run = locust(*headless(stand_in, "KeepAliveUser"))
    text = run.wait_for(lambda text: total(text, "locust_requests_total") >= 2)
    assert total(text, "locust_failures_total", error="503") == total(text, "locust_requests_total")
    assert run.finish() == 1


def test_unknown_status_is_other(stand_in, locust):
    stand_in.status = 418
    run = locust(*headless(stand_in, "KeepAliveUser"))
    text = run.wait_for(lambda text: total(text, "locust_failures_total") > 0)
    assert total(text, "locust_failures_total", error="other") == total(text, "locust_failures_total")


def test_work_user_asks_for_the_given_work(stand_in, locust):
    kinds = ("/work (heavy)", "/ (cheap)")
    run = locust(*headless(stand_in, "WorkUser"), "--cpu", "3ms", "--block", "4ms")
    run.wait_for(lambda text: min(total(text, "locust_requests_total", name=name) for name in kinds) > 0)
    assert set(stand_in.paths) == {"/", "/work?cpu=3ms&block=4ms"}


def test_hot_user_is_one_among_quiet_ones(stand_in, locust):
    run = locust(*headless(stand_in, "HotUser", "QuietUser", users=4))
    text = run.wait_for(lambda text: total(text, "locust_requests_total", name="/ (quiet)") >= 6)
    hot, quiet = (total(text, "locust_requests_total", name=name) for name in ("/work (hot)", "/ (quiet)"))
    assert stand_in.connections == 4
    assert hot > quiet / 3  # of the four it is one, and the three pause


def test_retrying_user_repeats_lost_posts_with_the_same_key(stand_in, locust):
    run = locust(*headless(stand_in, "RetryingUser"), "--lose", "0.5")
    run.wait_for(lambda text: total(text, "locust_requests_total", method="POST") >= 30)
    assert run.finish() == 0, run.log.read_text()
    assert len(set(stand_in.keys)) < len(stand_in.keys)
    assert total_of_failures(run) == 0


def test_retrying_user_can_take_a_fresh_counter_each_time(stand_in, locust):
    run = locust(*headless(stand_in, "RetryingUser"), "--fresh-counters")
    run.wait_for(lambda text: total(text, "locust_requests_total", method="POST") >= 10)
    assert run.finish() == 0, run.log.read_text()
    assert len(stand_in.counters) >= 10
    assert set(stand_in.counters.values()) == {1}


def test_retrying_user_finds_effects_applied_twice(stand_in, locust):
    stand_in.idempotent = False
    run = locust(*headless(stand_in, "RetryingUser"), "--lose", "0.5")
    run.wait_for(lambda text: total(text, "locust_requests_total", method="POST") >= 60)
    assert run.finish() == 1
    failures = json.loads(run.result_file.read_text())["failures"]
    assert {error for _, error, count in failures if count} == {"WrongCountError"}


def total_of_failures(run):
    result = json.loads(run.result_file.read_text())
    return sum(count for *_, count in result["failures"] + result["connect_failures"])


def test_timeout_is_counted_and_the_connection_given_up(locust, silent_server):
    run = locust(*headless(silent_server, "KeepAliveUser", users=1), "--timeout", "0.3")
    text = run.wait_for(lambda text: total(text, "locust_failures_total") >= 2)
    assert total(text, "locust_failures_total", error="TimeoutError") >= 2
    assert total(text, "locust_connect_seconds_count") >= 2


def test_master_shows_what_its_workers_measured(stand_in, locust):
    port, page = free_ports(2)
    master = locust(
        "--master", "--master-bind-port", str(port), "--web-port", str(page), "--autostart", "--expect-workers", "1",
        *headless(stand_in, "KeepAliveUser")[2:],
    )  # fmt: skip
    worker = locust("--worker", "--master-port", str(port), "KeepAliveUser")
    text = master.wait_for(lambda text: total(text, "locust_requests_total") >= 20, page)
    assert total(text, "locust_users") == 2
    assert total(text, "locust_connect_seconds_count") == 2
    assert len(values(text, "locust_worker_cpu_ratio")) == 1
    with pytest.raises(httpx.ConnectError):
        worker.metrics()
    assert worker.finish() == 0


def test_page_offers_models_and_shapes_on_loopback_only(stand_in, locust):
    (page,) = free_ports(1)
    run = locust("--class-picker", "--web-port", str(page))
    text = run.wait_for(lambda text: "locust_users" in text, page)
    assert total(text, "locust_users") == 0
    html = httpx.get(f"http://127.0.0.1:{page}/", trust_env=False).text
    for offered in ("StepShape", "SpikeShape", "KeepAliveUser", "MemcacheUser", "ramcloud", "reuseport"):
        assert offered in html
    assert listeners_of(page) == {"0100007F"}


def listeners_of(port):
    with open("/proc/net/tcp", encoding="ascii") as table:  # noqa: PTH123
        rows = [line.split() for line in table.readlines()[1:]]
    wanted = f"{port:04X}"
    return {row[1].split(":")[0] for row in rows if row[1].endswith(f":{wanted}") and row[3] == "0A"}


def test_shape_changes_the_number_of_users(stand_in, locust):
    run = locust(*headless(stand_in, "KeepAliveUser", users=5), "-t", "60", "--shape", "step")
    text = run.wait_for(lambda text: total(text, "locust_users") > 0)
    assert total(text, "locust_users") < 5


def test_step_shape_climbs_to_all_users_and_ends():
    # In a process of its own: importing Locust would patch every socket here.
    program = """
from types import SimpleNamespace
from loadtests.shapes import StepShape
shape = StepShape()
shape.runner = SimpleNamespace(environment=SimpleNamespace(parsed_options=SimpleNamespace(run_time=10, num_users=5, spawn_rate=2)))
for seconds in (0, 1.9, 2.1, 9.9, 10.1):
    shape.get_run_time = lambda: seconds
    print(shape.tick())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, cwd=CHECKOUT)
    assert done.stdout.splitlines() == ["(1, 2)", "(1, 2)", "(2, 2)", "(5, 2)", "None"], done.stderr


def test_unknown_kind_is_refused(locust):
    from loadtests.kinds import classes_of

    with pytest.raises(ValueError, match="keep-alive, connect"):
        classes_of(["nobody"])


def test_memcache_user_against_the_real_memcached(locust):
    require_tool("memcached")
    with memcached.start() as peer:
        run = locust(*headless(peer, "MemcacheUser"))
        run.wait_for(lambda text: all(total(text, "locust_requests_total", name=name) >= 5 for name in ("get", "set")))
        assert run.finish() == 0, run.log.read_text()
    assert total_of_failures(run) == 0


def test_mixed_user_rejects_a_value_that_nobody_has_put(stand_in, locust):
    # The stand-in answers every GET with "hello": right for "/", wrong for a key.
    run = locust(*headless(stand_in, "MixedUser"), "--block", "0ms")
    text = run.wait_for(lambda text: total(text, "locust_requests_total", name="/kv/{key}", method="GET") > 0)
    reads = total(text, "locust_requests_total", name="/kv/{key}", method="GET")
    assert (
        total(text, "locust_failures_total", error="WrongReplyError") == total(text, "locust_failures_total") == reads
    )
