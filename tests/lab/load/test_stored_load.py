"""A load's run as it is kept: its document, its page, the index, and a locustfile of one's own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.servers import wait_until

from lab import results
from lab.cli.output import BROKEN_PIPE
from lab.load import locust
from lab.load.result import FAILURES, GOOD, SATURATED_EXIT
from lab.report import page
from lab.settings import CHECKOUT
from loadtests.histogram import Histogram

RAN = {GOOD, SATURATED_EXIT}
"""On a machine that others use, too, the generator may have had too little of it."""
OWN = """
from locust import HttpUser, task


class Visitor(HttpUser):
    @task
    def visit(self):
        self.client.get("/", name="front")
"""


def only_run():
    (run,) = results.runs()
    return run


def test_document_has_what_the_client_and_the_server_saw(model, kept):
    model("memcached", "--workers", "2")
    assert locust.make(locust.Load(("memcached",), users=4, rate=50.0, seconds=3), pages=page.write_with_index) in RAN
    document = only_run().document
    assert (document["schema"], document["kind"], document["model"]) == (2, "load", "memcached")
    assert document["id"] == only_run().name
    assert document["command"].startswith("lab load memcached --users 4")
    (repeat,) = document["repeats"]
    assert 2.9 < repeat["seconds"] < 30
    times = Histogram.from_json(repeat["histogram"])
    assert times.count == repeat["requests"] == sum(each["requests"] for each in repeat["series"]) > 50
    assert repeat["quantiles_seconds"]["p99"] == times.quantile(0.99)
    assert [each["second"] for each in repeat["series"]] == list(range(len(repeat["series"])))
    assert 0 <= repeat["others_cpu_ratio"] <= 1
    server = repeat["server"]
    assert server["requests"] == pytest.approx(repeat["requests"], abs=4)
    assert server["cpu_seconds"] > 0
    assert server["drops"] == 0
    assert sum(server["workers"].values()) == server["requests"]
    assert server["stages"]["service"]["p50"] > 0
    assert server["series"]


def test_page_and_index_show_the_run(model, kept):
    model("nodejs")
    locust.make(locust.Load(("nodejs",), users=2, rate=50.0, seconds=2), pages=page.write_with_index)
    html = (only_run().folder / "report.html").read_text()
    for title in ("Latency by percentile", "Throughput and latency over time", "The server over time"):
        assert title in html
    assert html.count("<svg") == 3
    assert f'href="{only_run().name}/report.html"' in (kept / "index.html").read_text()


def test_two_models_in_turns(model, kept):
    model("nodejs")
    model("nginx")
    asked = locust.Load(("nodejs", "nginx"), users=2, rate=50.0, seconds=1, repeat=2, interleave=True)
    assert locust.make(asked, pages=page.write_with_index) in RAN
    made = [(each["repeat"], each["model"], each["variant"]) for each in only_run().document["repeats"]]
    assert made == [(0, "nodejs", "A"), (0, "nginx", "B"), (1, "nodejs", "A"), (1, "nginx", "B")]


def test_own_locustfile_is_run_measured_and_stored(model, tmp_path):
    model("nodejs")
    file = tmp_path / "own.py"
    file.write_text(OWN)
    assert (
        locust.make(locust.Load(("nodejs",), users=2, rate=50.0, seconds=2, file=file), pages=page.write_with_index)
        in RAN
    )
    document = only_run().document
    assert document["options"]["file"] == str(file)
    (row,) = document["repeats"][0]["rows"]
    assert row["name"] == "GET front"
    assert document["repeats"][0]["server"]["requests"] == pytest.approx(row["count"], abs=2)


def test_own_users_requests_without_a_response_are_counted(model, tmp_path):
    server = model("nodejs")
    server.process.send_signal(signal.SIGSTOP)
    file = tmp_path / "own.py"
    file.write_text(OWN)
    assert (
        locust.make(locust.Load(("nodejs",), users=2, rate=50.0, seconds=2, file=file), pages=page.write_with_index)
        == FAILURES
    )
    assert only_run().document["repeats"][0]["no_response"] == 2


def test_file_without_users_says_so(model, tmp_path, capfd):
    model("nodejs")
    file = tmp_path / "own.py"
    file.write_text("")
    assert (
        locust.make(locust.Load(("nodejs",), users=1, rate=1.0, seconds=1, file=file), pages=page.write_with_index)
        == locust.BAD_USAGE
    )
    assert "has no user class" in capfd.readouterr().err
    assert results.runs() == []


def test_load_that_is_ended_early_is_kept(model, kept, tmp_path):
    model("nodejs")
    command = [sys.executable, "-m", "lab", "load", "nodejs", "--users", "2", "--seconds", "60"]
    environment = {**os.environ, "LAB_STATE_DIR": str(tmp_path / "state")}
    stored = tmp_path / "state" / "results"
    with subprocess.Popen(
        command, env=environment, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        wait_until(lambda: _connections(os.environ["LAB_NODEJS_PORT"]) == 2, 20, "the connections of both users")
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
    assert process.returncode in RAN, output
    (run,) = results.runs(stored)
    assert run.document["repeats"][0]["seconds"] < 30


def _connections(port):
    """Count the server's ends: `lab load` itself looks whether anybody listens, with one connection."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[1].endswith(f":{int(port):04X}") and line.split()[3] == "01" for line in lines)


def test_load_that_is_ended_before_it_begins_leaves_nothing(model, tmp_path):
    model("nodejs")
    command = [sys.executable, "-m", "lab", "load", "nodejs", "--users", "2", "--seconds", "60"]
    environment = {**os.environ, "LAB_STATE_DIR": str(tmp_path / "state")}
    stored = tmp_path / "state" / "results"
    with subprocess.Popen(command, env=environment, cwd=CHECKOUT, stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: list(stored.glob("*-load-*/")), 20, "the load's folder")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in {128 + signal.SIGTERM, locust.BAD_USAGE}
    assert not list(stored.glob("*-load-*/"))


def test_run_of_a_newer_schema_is_named_in_one_line(kept):
    folder = results.new_folder("load-nodejs", datetime.now(UTC))
    results.write(folder, {"schema": 9, "kind": "load"})
    html = page.write_index(kept).read_text()
    assert "has schema 9, and this lab reads 1 to 2" in html
    with pytest.raises(results.ResultsError, match="schema 9"):
        results.load_run(folder.name)


def test_json_is_the_stored_document(model, capsys):
    model("nodejs")
    locust.make(locust.Load(("nodejs",), users=1, rate=50.0, seconds=1), as_json=True, pages=page.write_with_index)
    assert json.loads(capsys.readouterr().out) == only_run().document


@pytest.mark.parametrize(("host", "expected"), [("127.0.0.1", 0.3), ("server.example", 0.5)])
def test_what_the_server_used_is_not_taken_by_others_where_it_is_on_this_machine(monkeypatch, host, expected):
    monkeypatch.setenv("LAB_NGINX_HOST", host)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    taken = locust._taken_by_others(0.5, {"seconds": 10.0}, {"cpu_seconds": 4.0}, "nginx")
    assert taken == pytest.approx(expected)


def test_run_is_kept_although_nobody_reads_its_report(model, kept):
    model("memcached", "--workers", "1")
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:  # lab load memcached 2>&1 | true
        done = subprocess.run(
            [sys.executable, "-m", "lab", "load", "memcached", "--users", "2", "--seconds", "1"], stdout=pipe,
            stderr=pipe, timeout=60, env={**os.environ, "LAB_STATE_DIR": str(kept.parent)},
        )  # fmt: skip
    assert done.returncode == BROKEN_PIPE
    assert only_run().requests > 0
    assert only_run().page.is_file()
