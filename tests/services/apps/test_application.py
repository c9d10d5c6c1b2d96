"""What holds for every route: who answers, which methods there are, and what goes wrong politely."""

import logging
import os

import pytest

from services.apps import Identity, make_application, make_store, open_body
from services.apps.memory_store import MemoryStore
from services.apps.store import StoreBusyError
from services.messages import Command, Request


def test_front_page_names_model_worker_and_process(client):
    response = client.http("GET", b"/")
    assert response.code == "200"
    assert response.body.decode().splitlines() == ["model: nginx", "worker: 3", f"pid: {os.getpid()}"]


def test_front_page_in_a_forked_worker_names_its_own_process(client):
    client.http("GET", b"/")
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, client.http("GET", b"/").body)
        os._exit(0)
    os.waitpid(pid, 0)
    assert f"pid: {pid}\n" in os.read(reader, 1000).decode()
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize(
    "message",
    [
        Request("GET", b"/"),
        Request("GET", b"/nowhere"),
        Request("PATCH", b"/"),
        Request("OPTIONS", b"/kv/a"),
        Request("GET", b"/stream?bytes=x"),
        Command("get", (b"a",)),
        Command("version"),
        Command("no-such-command"),
    ],
)
def test_every_response_names_the_worker(client, message):
    assert client.application(message).worker == b"3"


@pytest.mark.parametrize(
    ("target", "allowed"),
    [
        (b"/", b"GET, HEAD, OPTIONS"),
        (b"/kv/a", b"DELETE, GET, HEAD, OPTIONS, PUT"),
        (b"/kv/a?x=/y", b"DELETE, GET, HEAD, OPTIONS, PUT"),
        (b"/counters/a", b"GET, HEAD, OPTIONS, POST"),
        (b"/counters/a/increments/b", b"OPTIONS, PUT"),
        (b"/work?cpu=1ms", b"GET, HEAD, OPTIONS"),
        (b"/stream", b"GET, HEAD, OPTIONS"),
        (b"/sink", b"OPTIONS, POST"),
        (b"/healthz", b"GET, HEAD, OPTIONS"),
        (b"*", b"DELETE, GET, HEAD, OPTIONS, POST, PUT"),
    ],
)
def test_options_and_a_wrong_method_tell_what_is_allowed(client, target, allowed):
    options = client.http("OPTIONS", target)
    assert (options.code, options.headers, options.body) == ("204", b"Allow: " + allowed + b"\r\n", b"")
    wrong = client.http("PATCH", target)
    if target != b"*":
        assert (wrong.code, wrong.headers) == ("405", b"Allow: " + allowed + b"\r\n")


@pytest.mark.parametrize(
    "target",
    [b"/nowhere", b"/kv", b"/kv/a/b", b"/counters/a/increments", b"//", b"", b"kv/a", b"x/kv/a", b"/work/", b"?"],
)
def test_unknown_path_answers_404_with_the_routes(client, target):
    response = client.http("GET", target)
    assert response.code == "404"
    assert b"/counters/{name}" in response.body


def test_whole_url_as_target_is_understood(client):
    assert client.http("GET", b"http://example.test").code == "200"
    client.http("PUT", b"http://example.test/kv/a", b"1")
    assert client.http("GET", b"HTTP://example.test:8001/kv/a?x=1").body == b"1"


@pytest.mark.parametrize("target", [b"/", b"/kv/a", b"/counters/a", b"/stream?bytes=7", b"/healthz"])
def test_head_answers_as_get_does(client, target):
    client.http("PUT", b"/kv/a", b"value")
    assert client.http("HEAD", target) == client.http("GET", target)


def test_healthz_follows_the_server(client):
    assert client.http("GET", b"/healthz").code == "200"
    client.healthy = False
    assert client.http("GET", b"/healthz").code == "503"


def test_stream_comes_in_pieces(client):
    response = client.http("GET", b"/stream?bytes=1099511627776")
    assert (response.code, response.body, response.pieces.size) == ("200", b"", 1 << 40)
    response = client.http("GET", b"/stream?bytes=200000")
    assert b"".join(response.pieces) == bytes(200_000)


@pytest.mark.parametrize(
    "query", [b"", b"?bytes=", b"?bytes=-1", b"?bytes=1e3", b"?bytes=1099511627777", b"?bytes=1_0"]
)
def test_stream_of_a_bad_size_says_what_is_accepted(client, query):
    response = client.http("GET", b"/stream" + query)
    assert (response.code, response.body) == ("400", b"bytes must be a whole number from 0 to 1099511627776\n")


def test_sink_tells_what_was_received_although_nothing_was_kept(client):
    response = client.application(Request("POST", b"/sink?rate=5", body=b"", body_size=123_456))
    assert (response.code, response.body) == ("200", b"123456 bytes received\n")
    assert client.http("POST", b"/sink?rate=fast").code == "400"


@pytest.mark.parametrize(
    ("method", "target", "rate"),
    [
        ("POST", b"/sink", 0),
        ("POST", b"/sink?rate=4096", 4096),
        ("POST", b"/sink?rate=-1", 0),
        ("POST", b"http://example.test/sink?rate=7", 7),
        ("POST", b"/sinks", None),
        ("POST", b"/kv/a?x=/sink", None),
        ("GET", b"/sink", None),
    ],
)
def test_body_of_a_sink_is_taken_in_pieces_at_its_rate(method, target, rate):
    reader = open_body(Request(method, target))
    if rate is None:
        assert reader is None
    else:
        assert reader.take(bytes(8192)) == (min(8192 / rate, 60) if rate else 0)


def test_too_many_query_values_are_refused(client):
    assert client.http("POST", b"/counters/a?" + b"&".join([b"by=1"] * 33)).code == "400"


class BrokenStore(MemoryStore):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def item(self, key):
        raise self.error


def test_our_own_bug_is_logged_with_its_traceback_and_answered(caplog):
    application = make_application(
        Identity("nodejs", "main"), BrokenStore(ZeroDivisionError("oops")), {}, lambda outcome: None, lambda: True
    )
    with caplog.at_level(logging.ERROR, "services"):
        assert application(Request("GET", b"/kv/a")).code == "500"
        reply = application(Command("get", (b"a",)))
    assert (reply.code, reply.body) == ("SERVER_ERROR", b"SERVER_ERROR internal error\r\n")
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError] * 2


def test_unavailable_store_is_a_503_that_says_when_to_come_back():
    outcomes = []
    application = make_application(
        Identity("nodejs", "main"), BrokenStore(StoreBusyError("locked")), {}, outcomes.append, lambda: True
    )
    response = application(Request("GET", b"/kv/a"))
    assert (response.code, response.headers) == ("503", b"Retry-After: 1\r\n")
    assert application(Command("get", (b"a",))).body == b"SERVER_ERROR locked\r\n"
    assert outcomes == ["unavailable"] * 2


def test_make_store_refuses_what_it_does_not_know(tmp_path):
    with pytest.raises(ValueError, match="choose memory, or sqlite and a folder"):
        make_store("redis", tmp_path)
    with pytest.raises(ValueError, match="sqlite"):
        make_store("sqlite", None)
    assert make_store("memory", None).counter(b"a") == 0
    assert make_store("sqlite", tmp_path / "new").counter(b"a") == 0
