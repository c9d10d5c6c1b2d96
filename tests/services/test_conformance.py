"""Every valid row of model × worker kind × protocol, and every option of a model, passes the same suite."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from pymemcache.client.base import Client as MemcacheClient
from support import plain_http
from support.servers import Server, end_server, read_response, start_server

from services.options import MODELS, matrix

ROWS = [
    (model, kind, protocol, extra)
    for model, kind, protocol in matrix()
    for extra in ([(), ("--cluster", "2")] if model == "nodejs" else [()])
]
OPTION_ROWS = [
    (model.name, kind, "auto", (f"--{option.name}", choice, *(("--cluster", "2") if model.name == "nodejs" else ())))
    for model in MODELS.values()
    for kind in model.worker_kinds
    for option in model.options
    for choice in option.choices[1:]
]
HTTP_ROWS = [row for row in ROWS + OPTION_ROWS if row[2] in ("auto", "http1")]
MEMCACHE_ROWS = [row for row in ROWS + OPTION_ROWS if row[2] in ("auto", "memcache")]
ECHO_ROWS = [row for row in ROWS if row[2] == "echo"]


def name(row: tuple) -> str:
    model, kind, protocol, extra = row
    return "-".join([model, kind, protocol, *(part.lstrip("-") for part in extra)])


def running(row: tuple, folder) -> Iterator[Server]:
    model, kind, protocol, extra = row
    server = start_server(
        folder,
        model,
        "--worker-kind",
        kind,
        "--protocol",
        protocol,
        "--workers",
        "2",
        "--state-dir",
        str(folder),
        *extra,
    )
    yield server
    end_server(server)
    assert "Traceback" not in server.log.read_text(), server.log.read_text()


@pytest.fixture(scope="module", params=HTTP_ROWS, ids=name)
def http(request: pytest.FixtureRequest, tmp_path_factory) -> Iterator[Server]:
    yield from running(request.param, tmp_path_factory.mktemp("http"))


@pytest.fixture(scope="module", params=MEMCACHE_ROWS, ids=name)
def memcache(request: pytest.FixtureRequest, tmp_path_factory) -> Iterator[Server]:
    yield from running(request.param, tmp_path_factory.mktemp("memcache"))


@pytest.fixture(scope="module", params=ECHO_ROWS, ids=name)
def echo(request: pytest.FixtureRequest, tmp_path_factory) -> Iterator[Server]:
    yield from running(request.param, tmp_path_factory.mktemp("echo"))


def test_root_says_who_answered(http: Server) -> None:
    answer = http.get("/")
    assert answer.status_code == 200
    assert answer.headers["x-model"] == http.model
    assert answer.headers["x-worker"] in {"main", "0", "1"}
    assert http.model in answer.text


def test_head_answers_without_body(http: Server) -> None:
    with http.connect() as client:
        client.sendall(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        data = b""
        while data.count(b"HTTP/1.1 200") < 2:
            data += client.recv(65536)
    assert b"\r\n\r\nHTTP/1.1 200" in data


def test_head_of_a_stream_is_only_a_head(http: Server) -> None:
    with http.connect() as client:
        for _ in range(3):  # sampled and not
            client.sendall(
                b"HEAD /stream?bytes=5000 HTTP/1.1\r\nHost: x\r\n\r\nGET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"
            )
            data = b""
            while b" 404 " not in data:
                data += client.recv(65536)
            assert b"Content-Length: 5000" in data
            assert data.index(b" 404 ") < 1000
            while not data.endswith(b"\n") or data.count(b"\r\n\r\n") < 2:
                data += client.recv(65536)


def test_connection_is_kept_and_pipelined_in_order(http: Server) -> None:
    with http.connect() as client:
        client.sendall(
            b"".join(b"PUT /kv/p%d HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n%02d" % (n, n) for n in range(20))
        )
        client.sendall(
            b"".join(b"GET /kv/p%d HTTP/1.1\r\nHost: x\r\n\r\n" % n for n in range(20))
            + b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        data = b""
        while b" 404 " not in data:
            data += client.recv(65536)
    bodies = [part.partition(b"\r\n\r\n")[2] for part in data.split(b"HTTP/1.1 ")[1:]]
    assert list(bodies[20:40]) == [b"%02d" % n for n in range(20)]


def test_kv_is_stored_replaced_and_deleted(http: Server) -> None:
    with plain_http.Client(base_url=http.url, timeout=10) as client:
        assert client.put("/kv/k", content=b"one").status_code in (200, 201, 204)
        assert client.put("/kv/k", content=b"two").status_code in (200, 204)
        assert client.get("/kv/k").content == b"two"
        assert client.delete("/kv/k").status_code in (200, 204)
        assert client.get("/kv/k").status_code == 404


def test_large_value_survives_in_pieces(http: Server) -> None:
    value = os.urandom(900_000)
    with plain_http.Client(base_url=http.url, timeout=10) as client:
        client.put("/kv/large", content=iter([value[:1], value[1:400_000], value[400_000:]]))  # chunked
        assert client.get("/kv/large").content == value
        client.delete("/kv/large")


def test_stored_by_one_connection_is_seen_by_all(http: Server) -> None:
    http_put = plain_http.put(http.url + "/kv/shared", content=b"seen", timeout=10)
    assert http_put.status_code in (200, 201, 204)
    assert {plain_http.get(http.url + "/kv/shared", timeout=10).content for _ in range(8)} == {b"seen"}


def test_expect_continue_is_answered_before_the_body(http: Server) -> None:
    with http.connect() as client:
        client.sendall(b"PUT /kv/expected HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"body")
        assert read_response(client).startswith(b"HTTP/1.1 20")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"PATCH /kv/k HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"\x00\x01\x02\r\n\r\n", 400),
        (b"PUT /kv/k HTTP/1.1\r\nHost: x\r\n\r\n", 411),
        (b"PUT /kv/k HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n", 413),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 40000 + b"\r\n\r\n", 431),
        (b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", 501),
    ],
    ids=["404", "405", "400-host", "400-garbage", "411", "413", "414", "431", "501"],
)
def test_refusal_has_its_status(http: Server, request_bytes: bytes, status: int) -> None:
    with http.connect() as client:
        assert http.ask(request_bytes, client).startswith(b"HTTP/1.1 %d" % status)


def test_refused_client_reads_the_answer_although_it_goes_on_sending(http: Server) -> None:
    with http.connect() as client:
        client.sendall(b"PUT /kv/k HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 200_000)
        assert read_response(client).startswith(b"HTTP/1.1 413")


def test_connection_close_is_honoured(http: Server) -> None:
    with http.connect() as client:
        answer = http.ask(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", client)
        assert b"connection: close" in answer.lower()
        assert client.recv(10) == b""


def test_half_closed_client_gets_its_answer(http: Server) -> None:
    with http.connect() as client:
        client.sendall(b"GET /work?block=50ms HTTP/1.1\r\nHost: x\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        assert read_response(client).startswith(b"HTTP/1.1 200")


def test_stream_is_delivered_whole(http: Server) -> None:
    with http.connect() as client:
        client.sendall(b"GET /stream?bytes=3000000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        size = 0
        while part := client.recv(1 << 20):
            size += len(part)
    assert 3_000_000 < size < 3_001_000


def test_sink_counts_what_was_sent(http: Server) -> None:
    assert "3000000" in plain_http.post(http.url + "/sink", content=bytes(3_000_000), timeout=10).text


def test_many_clients_are_all_answered(http: Server) -> None:
    def ask(_: int) -> int:
        with plain_http.Client(base_url=http.url, timeout=20) as client:
            return sum(client.get("/work?block=1ms").status_code == 200 for _ in range(5))

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(ask, range(32))) == 160


def test_counter_counts_each_post_once(http: Server) -> None:
    counter = f"{http.url}/counters/c{time.monotonic_ns()}"
    with ThreadPoolExecutor(8) as pool:
        codes = [f.result().status_code for f in [pool.submit(plain_http.post, counter, timeout=20) for _ in range(40)]]
    assert plain_http.get(counter, timeout=10).text.strip() == str(codes.count(200))
    assert set(codes) <= {200, 503}


def test_memcache_client_stores_and_counts(memcache: Server) -> None:
    client = MemcacheClient(("127.0.0.1", memcache.port), timeout=10, no_delay=True)
    client.set("a", b"1", noreply=False)
    assert client.incr("a", 41) == 42
    assert client.get("a") == b"42"
    value, token = client.gets("a")
    assert client.cas("a", b"9", token, noreply=False) is True
    assert client.cas("a", b"8", token, noreply=False) is False
    assert client.add("a", b"7", noreply=False) is False
    assert client.get_many(["a", "missing"]) == {"a": b"9"}
    assert client.delete("a", noreply=False) is True
    assert client.get("a") is None
    client.set("big", bytes(1_000_000), noreply=False)
    assert client.get("big") == bytes(1_000_000)
    client.delete("big")
    client.quit()
    assert value == b"42"


def test_memcache_pipeline_is_answered_in_order(memcache: Server) -> None:
    with memcache.connect() as client:
        client.sendall(b"set x 0 0 1\r\n1\r\nset y 0 0 1 noreply\r\n2\r\nget x y\r\nbogus\r\nversion\r\nquit\r\n")
        data = b""
        while part := client.recv(65536):
            data += part
    assert data.startswith(b"STORED\r\nVALUE x 0 1\r\n1\r\nVALUE y 0 1\r\n2\r\nEND\r\nERROR\r\nVERSION ")


def test_echo_gives_everything_back(echo: Server) -> None:
    data = os.urandom(300_000)
    with echo.connect() as client, ThreadPoolExecutor(1) as pool:
        sent = pool.submit(client.sendall, data)
        back = b""
        while len(back) < len(data):
            back += client.recv(65536)
        sent.result()
    assert back == data
