"""Loads in a real Prometheus, with the lab's own configuration: while they last, and two at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import httpx
import pytest
from support.servers import wait_until
from support.tools import require_tool

from lab.load import seen
from lab.load.result import GOOD, SATURATED_EXIT
from lab.peers.process import free_port
from lab.settings import CHECKOUT, SettingError


@pytest.fixture
def prometheus(tmp_path):
    """Where it answers, and the state folder that it belongs to."""
    program, port = require_tool("prometheus"), free_port()
    folder = tmp_path / "state" / "prometheus"
    (folder / "targets").mkdir(parents=True)
    (folder / "rules").mkdir()
    shutil.copy(CHECKOUT / "dashboards" / "prometheus" / "prometheus.yml", folder)
    command = [program, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    command.append(f"--web.listen-address=127.0.0.1:{port}")
    with (
        (tmp_path / "prometheus.log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        try:
            yield port, tmp_path / "state"
        finally:
            process.terminate()


def series(port, promql):
    with httpx.Client(trust_env=False) as client:
        try:
            found = client.get(f"http://127.0.0.1:{port}/api/v1/query", params={"query": promql}).json()
        except (httpx.HTTPError, json.JSONDecodeError):  # it is not ready yet
            return []
    return found.get("data", {}).get("result", [])


def start_load(model, prometheus_port, state, seconds):
    environment = {**os.environ, "LAB_STATE_DIR": str(state), "LAB_PROMETHEUS_PORT": str(prometheus_port)}
    command = [sys.executable, "-m", "lab", "load", model, "--users", "2", "--seconds", str(seconds)]
    return subprocess.Popen(command, env=environment, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_two_loads_at_once_are_both_seen_from_their_beginning_to_two_scrapes_after_their_end(model, prometheus):
    port, state = prometheus
    wait_until(lambda: series(port, "vector(1)"), 20, "Prometheus")
    model("nodejs")
    model("nginx")
    loads = [start_load(name, port, state, 4) for name in ("nodejs", "nginx")]
    try:
        both = "count(count by (run, model) (locust_requests_total))"
        wait_until(lambda: [row["value"][1] for row in series(port, both)] == ["2"], 40, "both loads", 0.2)
        for process in loads:
            output, _ = process.communicate(timeout=60)
            assert process.returncode in {GOOD, SATURATED_EXIT}, output.decode()
    finally:
        for process in loads:
            process.kill()
    ended = time.time()
    # Seen before the first request, and with the last.
    for name in ("nodejs", "nginx"):
        (stored,) = state.glob(f"results/*-load-{name}")
        (first,) = series(port, f'min_over_time(locust_connect_seconds_count{{model="{name}"}}[2m])')
        assert first["value"][1] == "0"
        assert first["metric"]["run"].startswith(stored.name)
        (last,) = series(port, f'max_over_time(locust_requests_total{{model="{name}"}}[2m])')
        assert int(last["value"][1]) == _requests(stored)
        (users,) = series(port, f'locust_users{{run=~".*{name}.*"}}[2m]')
        assert [value for _, value in users["values"]][-2:] == ["0", "0"]
    assert not list((state / "prometheus" / "targets").iterdir()), ended


def _requests(folder):
    from lab import results

    return sum(repeat["requests"] for repeat in results.load_run(folder)["repeats"])


def test_each_load_takes_a_port_of_its_own_where_the_variable_says(monkeypatch):
    first = free_port()
    monkeypatch.setenv(seen.LOADS_LISTEN, f"127.0.0.1:{first}-{first + 20}")
    with seen.load_address("one") as one:
        assert one is not None
        import socket

        with socket.create_server(one), seen.load_address("two") as two:
            assert two is not None
            assert one[1] < two[1] <= first + 20


@pytest.mark.parametrize("text", ["9111", "127.0.0.1:many", "127.0.0.1:1-", "127.0.0.1:9111-99999999"])
def test_wrong_address_is_refused(monkeypatch, text):
    monkeypatch.setenv(seen.LOADS_LISTEN, text)
    with pytest.raises(SettingError, match=seen.LOADS_LISTEN), seen.load_address("one"):
        pass


def test_load_on_another_host_says_that_its_prometheus_must_be_told(monkeypatch):
    monkeypatch.delenv(seen.LOADS_LISTEN, raising=False)
    monkeypatch.delenv("LAB_NGINX_HOST", raising=False)
    assert seen.unseen("nginx") == ""
    monkeypatch.setenv("LAB_NGINX_HOST", "192.0.2.11")
    assert "lab_load_targets" in seen.unseen("nginx")
    monkeypatch.setenv(seen.LOADS_LISTEN, "198.51.100.7:9111-9112")
    assert seen.unseen("nginx") == ""
