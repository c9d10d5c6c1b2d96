"""What a trial is given: figures that mean what they say, and errors where there are none.

Real servers and a real generator, in the network that the tests are in: how namespaces keep apart is tested elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections import Counter
from typing import Any

import pytest

from lab.harness.observation import AS_SENT, FAILED, GENERATOR_CPU, LITTLES_LAW, Arm, Observation
from lab.harness.trial import Load, LoadResult, Server, Trial, TrialError, ask_on
from lab.load.plan import Plan, Stream, StreamResult
from lab.peers.process import Peer
from loadtests.histogram import Histogram


class HereToo:
    """A namespace that is the one we are in."""

    name, address = "here", "127.0.0.1"
    entered = staticmethod(contextlib.nullcontext)
    socket = staticmethod(socket.socket)


@pytest.fixture
def trial(tmp_path):
    cpus = os.sched_getaffinity(0)
    return Trial(Arm("only", "nginx", {"workers": 2}), 1, True, HereToo(), HereToo(), tmp_path, cpus, cpus)


@pytest.fixture
def server(trial):
    with trial.serving() as running:
        yield running


@contextlib.contextmanager
def one_answer(text: bytes):
    """Somebody who says the same to everybody."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with contextlib.suppress(OSError):
                client, _ = listener.accept()
                with client:
                    client.recv(4096)
                    client.sendall(text)

        thread = threading.Thread(target=answer)
        thread.start()
        yield listener.getsockname()
    thread.join(5)


def times(*milliseconds: int) -> dict[str, Any]:
    found = Histogram()
    for one in milliseconds:
        found.record_seconds(one / 1000)
    return found.to_json()


def result(**stream) -> LoadResult:
    counted = StreamResult("s", **{"intended": times(1), "sent": times(1), **stream})
    return LoadResult(2.0, 0.25, None, {"s": counted})


def test_all_that_went_wrong_counts_as_failed():
    bad = result(
        requests=10, completed=8, unanswered=1, dropped=2, errors=Counter(reset=3), statuses=Counter({"200": 6, "503": 4})
    )  # fmt: skip
    found = bad.quantities()
    assert found[FAILED].value == 3 + 1 + 2 + 4
    assert found["rate"].value == 4.0
    assert found[GENERATOR_CPU].value == 0.25


def test_what_failed_in_another_stream_counts_too():
    good, bad = (StreamResult(name, intended=times(1), sent=times(1)) for name in ("good", "bad"))
    bad.errors["reset"] = 3
    load = LoadResult(2.0, 0.25, 1.0, {"good": good, "bad": bad})
    assert load.quantities("good")[FAILED].value == 3


def test_littles_law_is_given_only_where_it_was_computed():
    known = result()
    assert LITTLES_LAW not in known.quantities()
    assert LoadResult(2.0, 0.25, 1.01, known.streams).quantities()[LITTLES_LAW].value == 1.01


def test_quantiles_are_milliseconds_from_when_a_request_was_meant_to_start():
    found = result(intended=times(*range(1, 101)), sent=times(1)).quantities()
    quantiles = {name: found[name].value for name in ("p50", "p90", "p99", "p99.9")}
    assert quantiles == pytest.approx({"p50": 50, "p90": 90, "p99": 99, "p99.9": 100}, rel=0.01)


def test_open_load_has_its_latencies_as_they_were_sent_too():
    assert set(result().latencies("latency")) == {"latency"}
    found = result(open=True, intended=times(500), sent=times(1)).latencies("latency")
    medians = {name: Histogram.from_json(stored).quantile(0.5) for name, stored in found.items()}
    assert medians["latency"] > 100 * medians["latency" + AS_SENT]


def test_load_is_answered_by_the_model_and_seen_in_its_figures(trial, server):
    with server.watched(into := Observation(), interval_seconds=0.02):
        load = trial.load(server, Stream("all", connections=4), seconds=0.5, warm_up_seconds=0.1)
    found = load.quantities()
    assert found["requests"].value > 0
    assert found[FAILED].value == 0
    per_worker = server.per_worker("lab_requests_total")
    assert set(per_worker) == {"0", "1"}
    assert sum(per_worker.values()) >= found["requests"].value
    assert server.requests() >= found["requests"].value
    assert [len(series) > 5 for series in into.series.values()] == [True]


def test_last_words_of_a_server_outlive_the_trial_that_broke_off(trial, capsys):
    with contextlib.suppress(TrialError), trial.serving() as server:
        (server.peer.folder / "log").write_text("a slip of its own")
        raise TrialError
    assert "nginx, in its last words:\na slip of its own" in capsys.readouterr().err


def test_load_that_does_not_come_is_an_error(monkeypatch, server):
    monkeypatch.setattr("lab.harness.trial.STARTING_SECONDS", 0.1)
    server.wait_until_asked(server.requests() - 1)
    with pytest.raises(TrialError, match="has not seen the load"):
        server.wait_until_asked(server.requests())


def test_who_answers_is_read_from_the_response(trial, server):
    assert trial.ask(server.address) in {"0", "1"}
    with trial.connect(server.address) as connection:
        assert ask_on(connection, "/healthz") == ask_on(connection, "/")


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 200 OK\r\nX-Model: reuseport\r\n\r\n", b"HTTP/1.1 503 Busy\r\nX-Model: nginx\r\n\r\n", b""]
)
def test_no_load_is_made_on_what_is_not_the_model(trial, tmp_path, answer):
    with one_answer(answer) as (_, port):
        somebody = Server(Peer("nginx", port, os.getpid(), tmp_path), HereToo())
        with pytest.raises(TrialError, match="no load is made"):
            trial.check(somebody)


def test_response_of_nobody_is_an_error(trial):
    with one_answer(b"HTTP/1.1 200 OK\r\n\r\n") as address, pytest.raises(TrialError, match="without X-Worker"):
        trial.ask(address)


def test_admin_endpoint_that_says_nothing_is_an_error(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(TrialError, match="connection refused"):
        Server(Peer("nginx", port, os.getpid(), tmp_path, f"http://127.0.0.1:{port}"), HereToo()).look()


def test_generator_that_fails_or_hangs_is_an_error_and_does_not_stay(trial, monkeypatch):
    plan = Plan("127.0.0.1", 1, (), 0.0, 0.0, seed=1)
    failing, hanging = "raise SystemExit(7)", "import time; time.sleep(60)"
    with trial.started(sys.executable, "-c", failing) as process, pytest.raises(TrialError, match="ended with 7"):
        Load(process, plan).result()
    monkeypatch.setattr("lab.harness.trial.SLACK_SECONDS", 0.2)
    with trial.started(sys.executable, "-c", hanging) as process, pytest.raises(TrialError, match="come to its end"):
        Load(process, plan).result()
    assert process.returncode is not None


def test_hammering_gives_a_rate_and_says_what_failed(trial, server, require_tool):
    require_tool("wrk")
    with trial.hammering(server, 0.5, connections=2) as finish:
        found = finish()
    assert found["rate"].value > 0
    assert found[FAILED].value == 0
    before = server.requests()
    with trial.hammering(server, 3, connections=2) as finish:
        server.wait_until_asked(before)
        os.kill(server.peer.pid, signal.SIGKILL)
        assert finish()[FAILED].value > 0
