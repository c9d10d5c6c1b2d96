"""The benchmark: a short real one, and what it makes of figures that are given."""

from __future__ import annotations

import contextlib
import io
import re
import socket

import pytest
from rich.console import Console
from support.tools import require_tool

from lab.bench import run as bench
from lab.load.idle_connections import IdleConnections, IdleError
from lab.peers import HTTP_PEERS, nginx
from lab.peers.application import Application

needs_load = pytest.mark.usefixtures("load_tools")
ROW_KEYS = [
    "server", "kind", "version", "keepalive_rps", "connections_per_second", "p50_ms", "p99_ms", "pss_bytes",
    "cpu_us_per_request", "admin_cpu_us_per_request", "busy_share",
    "fixed_rps", "fixed_cpu_us_per_request", "fixed_busy_share", "rounds_not_busy", "fixed_rounds_not_busy",
    "ratio_to_nginx", "cpu_ratio_to_nginx", "cpu_ratio_to_node", "fixed_cpu_ratio_to_nginx", "fixed_cpu_ratio_to_node",
]  # fmt: skip


def silent(_):
    pass


def shown(document):
    console = Console(file=io.StringIO(), width=200)
    for table in bench.tables(document):
        console.print(table)
    return console.file.getvalue()


def figures_of(rps, busy=0.98, beside=None):
    return bench.Measured(
        keepalive_rps=rps,
        connections_per_second=rps / 10,
        p50_ms=1.0,
        p99_ms=2.0,
        pss_bytes=10 * 2**20,
        cpu_us_per_request=1e6 / rps,
        admin_cpu_us_per_request=0.0,
        busy_share=busy,
        fixed_rps=2 * rps,
        fixed_cpu_us_per_request=1e6 / rps / 2,
        fixed_busy_share=0.98,
        beside=beside or {},
    )


@pytest.fixture
def document(monkeypatch):
    """Two servers, three rounds, figures that are given instead of measured."""
    figures = {"real-nginx": iter([100.0, 120.0, 110.0]), "nodejs": iter([60.0, 66.0, 50.0])}
    # Of nginx right after nodejs, when it is a tenth slower than it was in its own row.
    beside = iter([1e6 / 90, 1e6 / 108, 1e6 / 99])

    def one_server(server, *_):
        us = {"real-nginx": next(beside), "fixed_real-nginx": 1.0} if server.name == "nodejs" else {}
        return figures_of(next(figures[server.name]), beside=us)

    monkeypatch.setattr(bench, "one_server", one_server)
    monkeypatch.setattr(bench, "references", lambda *_: contextlib.nullcontext([]))
    monkeypatch.setattr(bench, "pick_cores", lambda: bench.Cores(0, 1))
    monkeypatch.setattr(bench.wrk, "require", lambda: "wrk")
    monkeypatch.setattr(bench.wrk, "version", lambda: "4.1.0")
    monkeypatch.setattr(nginx, "available", lambda: "1")
    return bench.run(["nodejs", "real-nginx"], 1.0, 3, {"rows"}, silent)


def test_row_is_the_median_over_the_rounds(document):
    assert [list(row) for row in document["rows"]] == [ROW_KEYS, ROW_KEYS]
    nodejs, real = document["rows"]
    assert (nodejs["server"], nodejs["kind"], nodejs["keepalive_rps"]) == ("nodejs", "model", 60.0)
    assert (real["kind"], real["ratio_to_nginx"]) == ("peer", 1.0)
    assert nodejs["ratio_to_nginx"] == pytest.approx(60 / 110)
    assert document["spreads"]["nodejs"]["keepalive_rps"] == {"median": 60, "min": 50, "max": 66, "unit": "1/s", "n": 3}


def test_cpu_ratio_is_the_median_of_adjacent_pairs(document):
    nodejs, real = document["rows"]
    ratio = nodejs["cpu_ratio_to_nginx"]
    assert (ratio["median"], ratio["min"], ratio["max"]) == pytest.approx((66 / 108, 50 / 99, 60 / 90))
    assert document["beside"]["nodejs"]["fixed_real-nginx"] == [1.0, 1.0, 1.0]
    assert (ratio["n"], nodejs["cpu_ratio_to_node"], real["cpu_ratio_to_nginx"]["median"]) == (3, None, 1.0)
    assert real["version"] == "1"


def test_table_shows_every_server_fastest_first(document):
    text = shown(document)
    assert text.index("real-nginx") < text.index("nodejs")
    assert "0.61" in text
    assert "± 13%" in text
    assert "less than 95 %" not in text


def test_server_whose_core_was_not_busy_is_marked(document):
    document["rows"][0]["rounds_not_busy"] = 1
    assert "less than 95 % busy" in shown(document)


def test_application_of_ones_own_is_compared_with_gunicorn_and_uvicorn(monkeypatch, tmp_path):
    """Real servers, figures that are given: uvicorn does not serve WSGI, and is left out."""
    (tmp_path / "hello.py").write_text("def app(environ, start):\n    start('200 OK', [])\n    return [b'hello']\n")
    said = []
    monkeypatch.setattr(bench, "references", lambda *_: contextlib.nullcontext([]))
    beside = {f"{load}gunicorn-gthread": 300.0 for load in ("", "fixed_")}
    monkeypatch.setattr(bench, "one_server", lambda *_: figures_of(10_000.0, beside=beside))
    document = bench.run(
        ["nginx", "gunicorn-gthread", "uvicorn"], 1.0, 1, {"rows"}, said.append, Application("hello:app", tmp_path)
    )
    assert [row["server"] for row in document["rows"]] == ["nginx", "gunicorn-gthread"]
    assert document["rows"][0]["cpu_ratio_to_gunicorn"]["median"] == 3.0
    assert document["rows"][0]["cpu_ratio_to_uvicorn"] is None
    assert any("left out: uvicorn" in line for line in said)
    assert "gunicorn ÷" in shown(document)


def test_rounds_are_interleaved(monkeypatch):
    order = []
    monkeypatch.setattr(bench, "references", lambda *_: contextlib.nullcontext([]))
    monkeypatch.setattr(bench, "one_server", lambda server, *_: order.append(server.name) or figures_of(1.0))
    bench.rows([bench.model_server("nodejs"), bench.model_server("nginx")], bench.Cores(0, 1), 1.0, 2, silent)
    assert order == ["nodejs", "nginx", "nodejs", "nginx"]


def test_tables_of_every_part(document):
    three = {"median": 2.0, "min": 1.0, "max": 3.0, "unit": "ms", "n": 3}
    figures = ("pss_bytes_per_connection", "kernel_bytes_per_connection", "p99_ms_without", "p99_ms_with", "p99_ratio")
    idle = {"server": "nodejs", "connections": 10_000, **dict.fromkeys(figures, three)}
    costs = ("cpu_us_per_request_on", "cpu_us_per_request_off", "admin_cpu_us_per_request", "ratio", "ratio_with_admin")
    missing = [{"server": "node", "how_to_get": "apt-get install nodejs"}]
    watched = {"nodejs": {"pairs": 10, **dict.fromkeys(costs, three)}}
    text = shown({**document, "idle_connections": idle, "watching": watched, "missing": missing})
    assert "only root may read it" not in text
    assert "only root may read it" in shown(
        {**document, "idle_connections": {**idle, "kernel_bytes_per_connection": None}}
    )
    for expected in ("10,000 idle connections on nodejs", "10 pairs", "apt-get install nodejs"):
        assert expected in text


def test_a_part_alone_goes_into_the_stored_document(document):
    measured = {
        "rows": [],
        "missing": [],
        "environment": {"commit": "new"},
        "load_average": 9.0,
        "watching": {"nodejs": 2},
    }
    old = {**document, "watching": {"nodejs": 1, "nginx": 1}}
    both = bench.merged(old, measured)
    assert both["watching"] == {"nodejs": 2, "nginx": 1}
    assert both["measured_apart"] == {"watching": {"commit": "new"}}
    assert {key: both[key] for key in document} == document


def test_rows_measured_anew_replace_all_rows(document):
    both = bench.merged({**document, "rows": ["old"], "watching": {}}, document)
    assert both == {**document, "watching": {}}


def test_one_core_is_inconclusive(monkeypatch):
    monkeypatch.setattr(bench.os, "sched_getaffinity", lambda _: {0})
    monkeypatch.setattr(bench.wrk, "require", lambda: "wrk")
    monkeypatch.setattr(bench.wrk, "version", lambda: "4.1.0")
    document = bench.run(["nodejs"], 1.0, 1, set(), silent)
    assert document["inconclusive"].startswith("needs 2 cores")
    assert document["rows"] == []


def test_missing_peer_is_named_with_the_way_to_get_it(monkeypatch):
    monkeypatch.setattr(HTTP_PEERS["node"], "available", lambda: None)
    present, missing = bench.choose(["nodejs", "node"])
    assert [server.name for server in present] == ["nodejs"]
    assert missing == [{"server": "node", "how_to_get": "apt-get install nodejs"}]


@pytest.mark.parametrize(("servers", "parts", "word"), [(["apache"], set(), "apache"), (None, {"speed"}, "speed")])
def test_unknown_names_are_refused_with_those_that_exist(monkeypatch, servers, parts, word):
    monkeypatch.setattr(bench.wrk, "require", lambda: "wrk")
    with pytest.raises(bench.BenchError, match=f"{word}; there are"):
        bench.run(servers, 1.0, 1, parts, silent)


def test_kernel_memory_is_summed_over_objects_in_rounds_that_could_read_it():
    kernel = bench.kernel_summary([{"TCP": 2400.0, "filp": 200.0}, None, {"TCP": 2500.0, "filp": 100.0}])
    assert (kernel["kernel_bytes_per_connection"]["median"], kernel["kernel_bytes_per_connection"]["n"]) == (2600.0, 2)
    assert kernel["kernel_bytes_by_object"] == {"TCP": 2450.0, "filp": 150.0}
    assert bench.kernel_summary([None])["kernel_bytes_per_connection"] is None


@needs_load
def test_short_real_benchmark_of_one_peer():
    document = bench.run(["real-nginx"], 1.0, 1, {"rows"}, silent)
    (row,) = document["rows"]
    assert row["ratio_to_nginx"] == 1.0
    assert min(row["keepalive_rps"], row["connections_per_second"]) > 0
    assert 0 < row["p50_ms"] <= row["p99_ms"]
    assert row["pss_bytes"] > 100_000
    assert 0 < row["cpu_us_per_request"] < 10_000
    assert re.match(r"\d+\.\d+", row["version"])
    assert set(document["environment"]) == {"kernel", "cpus", "python", "gil", "commit"}
    assert "real-nginx" in shown(document)


@needs_load
def test_wrong_answer_stops_the_benchmark():
    with nginx.start() as peer:
        server = bench.Server("real-nginx", "peer", "something else", lambda _: None)
        with pytest.raises(bench.BenchError, match="responded to GET / with 200"):
            bench.check(server, peer.url)


def test_idle_connections_stay_and_are_counted():
    require_tool("nginx")
    with nginx.start() as peer:
        with IdleConnections(peer.host, peer.port, 200) as idle:
            assert idle.alive() == 200
        assert idle.alive() == 0


def test_idle_connections_that_are_closed_are_not_alive():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        idle = IdleConnections(*listener.getsockname(), 1)
        idle._sockets.append(socket.create_connection(listener.getsockname()))
        accepted, _ = listener.accept()
        assert idle.alive() == 1
        accepted.shutdown(socket.SHUT_RDWR)
        accepted.close()
        idle._sockets[0].setblocking(True)
        idle._sockets[0].recv(1)
        assert idle.alive() == 0
        idle.__exit__(None, None, None)


def test_idle_connections_that_cannot_be_opened_say_how_many_could():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(IdleError, match="only 0 of 5"), IdleConnections("127.0.0.1", port, 5):
        pytest.fail("nobody listens there")
