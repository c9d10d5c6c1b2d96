"""HTTP/1.1, byte by byte: what is understood, what is refused and how, and what an answer looks like."""

import gc
import pickle
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.apps.streams import Zeros
from services.messages import BodyPiece, Request, Response
from services.protocols.http1 import MAX_SPARE_PARSERS, CommonHead, Http1
from services.protocols.http1_parser import MAX_BODY_BYTES, MAX_FIELDS, RequestParser

HEAD = b"HTTP/1.1 200 OK\r\nX-Model: nginx\r\nX-Worker: 3\r\nDate: Tue, 14 Nov 2023 22:13:20 GMT\r\n"
PLAIN = b"Content-Type: text/plain; charset=utf-8\r\n"


class Reader:
    """Takes a body in pieces; those of one kind are equal, so that messages can be compared."""

    max_bytes = 1 << 40

    def __eq__(self, other):
        return isinstance(other, Reader)

    __hash__ = None


def open_body(request):
    return Reader() if request.target.startswith(b"/sink") else None


@pytest.fixture
def common():
    common = CommonHead(b"nginx", b"3")
    common.refresh(1_700_000_000.5)
    return common


@pytest.fixture
def http(common):
    return Http1(common, open_body)


def messages_of(pieces, common=None):
    protocol = Http1(common or CommonHead(b"nginx", b"3"), open_body)
    messages = []
    for message in (message for piece in pieces for message in protocol.receive(piece)):
        if isinstance(message, Request):
            assert message.headers is not None  # from now on a dictionary, so that requests can be compared
        if isinstance(message, BodyPiece) and messages and isinstance(messages[-1], BodyPiece):
            message = BodyPiece(message.reader, messages.pop().data + message.data)
        messages.append(message)
    return messages


def cut(data, places):
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


# Requests.


def test_request_has_its_parts(http):
    data = b"PUT /kv/a?b=c HTTP/1.1\r\nHost: x\r\nX-Two: 1 \t\r\nx-two:  2 \r\nContent-Length: 3\r\n\r\nabc"
    headers = {b"host": b"x", b"x-two": b"1, 2", b"content-length": b"3"}
    assert http.receive(data) == [Request("PUT", b"/kv/a?b=c", headers, b"abc", 3)]
    assert (http.phase, http.closing) == ("idle", False)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_method_is_known(method):
    (request,) = messages_of([f"{method} / HTTP/1.1\r\nHost: x\r\n\r\n".encode()])
    assert request.method == method
    assert request.body == b""


@pytest.mark.parametrize(
    ("line", "target"),
    [
        (b"OPTIONS * HTTP/1.1", b"*"),
        (b"GET http://example/a?b HTTP/1.1", b"http://example/a?b"),
        (b"GET /a%20b HTTP/1.1", b"/a%20b"),
    ],
)
def test_target_may_have_any_form(line, target):
    (request,) = messages_of([line + b"\r\nHost: x\r\n\r\n"])
    assert request.target == target


@pytest.mark.parametrize(
    ("version", "connection", "keep_alive", "minor"),
    [
        ("1.1", "", True, 1),
        ("1.1", "Connection: keep-alive\r\n", True, 1),
        ("1.1", "Connection: close\r\n", False, 1),
        ("1.0", "", False, 0),
        ("1.0", "Connection: keep-alive\r\n", True, 0),
        ("1.0", "Proxy-Connection: keep-alive\r\n", True, 0),
    ],
)
def test_connection_is_kept_as_asked(http, version, connection, keep_alive, minor):
    (request,) = http.receive(f"GET / HTTP/{version}\r\nHost: x\r\n{connection}\r\n".encode())
    assert (request.keep_alive, request.http_minor, http.closing) == (keep_alive, minor, not keep_alive)


def test_later_minor_version_is_served_as_1_1(http):
    (request,) = http.receive(b"GET / HTTP/1.2\r\nHost: x\r\n\r\n")
    assert (request.keep_alive, request.http_minor) == (True, 1)
    assert answer(http, GET, Response("200", b"x")).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("host", [b"", b"a b", b"u@h", b"y"])
def test_target_that_names_the_host_is_what_counts(host):
    (request,) = messages_of([b"GET http://x/a HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"])
    assert request.target == b"http://x/a"


@pytest.mark.parametrize(
    ("field", "keep_alive"),
    [(b",close", False), (b"close,", False), (b", ,close", False), (b"keep-alive, ,close", False), (b",", True),
     (b"keep-alive,", True)],
)  # fmt: skip
def test_empty_members_of_connection_do_not_count(field, keep_alive):
    (request,) = messages_of([GET + b"Connection: " + field + b"\r\n\r\n"])
    assert request.keep_alive is keep_alive


def test_empty_member_of_transfer_encoding_does_not_count():
    (request,) = messages_of([POST + b"Transfer-Encoding: ,chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"])
    assert request.body == b"a"


@pytest.mark.parametrize(
    "fields",
    [b"Expect: 100-continue\r\n", b"Expect: 100-continue\r\nExpect: 100-continue\r\n", b"Expect: , 100-Continue,\r\n",
     b"Expect:\r\n", b"Expect: ,\r\n"],
)  # fmt: skip
def test_expectation_without_a_body_is_met_by_itself(fields):
    (request,) = messages_of([GET + fields + b"\r\n"])
    assert request.method == "GET"


def test_expectation_that_comes_twice_is_met_once(http):
    head = POST + b"Content-Length: 2\r\nExpect: 100-continue\r\nExpect: 100-continue\r\n\r\n"
    assert [message.code for message in http.receive(head)] == ["100"]


def test_http_1_0_needs_no_host():
    (request,) = messages_of([b"GET / HTTP/1.0\r\n\r\n"])
    assert request.http_minor == 0


def test_pipelined_requests_come_in_order():
    data = b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(1000))
    assert [message.target for message in messages_of([data])] == [b"/%d" % number for number in range(1000)]


def test_nothing_is_read_after_the_last_request(http):
    data = b"GET /%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert [message.target for message in http.receive(data % 1 + data % 2)] == [b"/1"]
    assert http.receive(data % 3) == []


def test_chunked_body_is_put_together_and_trailers_are_dropped():
    data = (
        b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n"
        b"3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nHost: trailer\r\nX-New: 1\r\n\r\n"
    )
    (request,) = messages_of([data])
    assert (request.body, request.body_size) == (b"abcde", 5)
    assert request.headers == {b"host": b"x", b"transfer-encoding": b"Chunked"}


@pytest.mark.parametrize("trailer", [b"Connection: close", b"Proxy-Connection: close", b"Connection: a, Close"])
def test_close_among_the_trailers_closes_and_spoils_no_other_connection(common, trailer):
    http, other = Http1(common, open_body), Http1(common, open_body)
    data = POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + trailer + b"\r\n\r\n"
    (request,) = http.receive(data + GET + b"\r\n")
    assert (request.keep_alive, http.closing) == (False, True)
    assert [message.method for message in other.receive(POST + b"Content-Length: 0\r\n\r\n")] == ["POST"]


def test_expectation_is_met_before_the_body(http):
    head = b"PUT /kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n\r\n"
    (first,) = http.receive(head)
    assert http.encode(None, first) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert (http.phase, http.closing) == ("body", False)
    (request,) = http.receive(b"ab")
    assert request.body == b"ab"


@pytest.mark.parametrize("zeros", [1, 5000])
def test_length_may_have_leading_zeros(zeros):
    (request,) = messages_of([POST + b"Content-Length: " + b"0" * zeros + b"3\r\n\r\nabc"])
    assert request.body == b"abc"


@pytest.mark.parametrize("length", [b"0", b"00"])
def test_no_continue_for_an_empty_body(length):
    (request,) = messages_of([POST + b"Content-Length: " + length + b"\r\nExpect: 100-continue\r\n\r\n"])
    assert request.body == b""


@pytest.mark.parametrize("head", [b"HTTP/1.0\r\nContent-Length: 2", b"HTTP/1.1\r\nHost: x\r\nContent-Length: 0"])
def test_no_continue_where_none_is_needed(head):
    messages = messages_of([b"PUT / " + head + b"\r\nExpect: 100-continue\r\n\r\nab"])
    assert messages[0].__class__ is Request


UPGRADE = b"Host: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\n\r\nx"
UPGRADES = [
    (b"GET /u HTTP/1.1\r\n" + UPGRADE + b"\r\n", b""),
    (b"POST /u HTTP/1.1\r\n" + UPGRADE + b"Content-Length: 25\r\n\r\n" + HIDDEN, HIDDEN),
    (b"POST /u HTTP/1.1\r\n" + UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", b"ab"),
]


@pytest.mark.parametrize(("data", "body"), UPGRADES, ids=["none", "length", "chunked"])
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_upgrade_is_ignored_and_the_body_is_the_body(data, body, size):
    stream = data * 3 + b"GET /after HTTP/1.1\r\nHost: x\r\n\r\n"
    pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
    messages = messages_of(pieces)
    assert [message.target for message in messages] == [b"/u"] * 3 + [b"/after"]
    assert [message.body for message in messages] == [body] * 3 + [b""]


def test_a_thousand_upgrades_at_once_are_ignored():
    assert len(messages_of([UPGRADES[0][0] * 1000])) == 1000


def test_blank_lines_before_a_request_are_skipped():
    (request,) = messages_of([b"\r\n", b"\r", b"\nGET / HTTP/1.1\r\nHost: x\r\n\r\n\r\n"])
    assert request.target == b"/"


# A body in pieces.


def test_body_in_pieces_is_counted_without_bound_and_not_kept(http):
    http.receive(b"POST /sink HTTP/1.1\r\nHost: x\r\nContent-Length: 30000000\r\n\r\n")
    assert http.phase == "body"
    tracemalloc.start()
    for _ in range(299):
        assert sum(len(piece.data) for piece in http.receive(bytes(100_000))) == 100_000
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 50_000
    *pieces, request = http.receive(bytes(100_000))
    assert {piece.__class__ for piece in pieces} == {BodyPiece}
    assert (request.body, request.body_size, http.phase) == (b"", 30_000_000, "idle")


def test_chunked_body_in_pieces_is_unbounded_too(http):
    http.receive(b"POST /sink HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(30):
        assert b"".join(piece.data for piece in http.receive(b"10000\r\n" + bytes(65536) + b"\r\n")) == bytes(65536)
    (request,) = http.receive(b"0\r\n\r\n")
    assert request.body_size == 30 * 65536


# Refusals.

GET = b"GET / HTTP/1.1\r\nHost: x\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
REFUSED = [
    ("400", b"\0\1\2\r\n\r\n"),
    ("400", b"get / HTTP/1.1\r\n"),
    ("400", b"hello\r\n"),
    ("400", b"HELLO WORLD"),
    ("400", b"\x16\x03\x01\0ABC"),
    ("400", b"GET x HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("400", b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("400", POST + b"Content-Length : 5\r\n\r\n"),
    ("400", POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n"),
    ("400", b"GET / HTTP/1.1\r\n\r\n"),
    ("400", GET + b"Host: y\r\n\r\n"),
    ("400", GET + b"Host: x\r\n\r\n"),
    ("400", b"GET / HTTP/1.1\nHost: x\n\n"),
    ("400", b"GET  / x HTTP/1.1\r\n"),
    ("400", b"GET / FTP/1.1\r\n"),
    ("400", GET + b"Name : x\r\n\r\n"),
    ("400", GET + b"A: b\r\n folded\r\n\r\n"),
    ("400", GET + b"A: \0\r\n\r\n"),
    ("400", POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n"),
    ("400", POST + b"Content-Length: 5, 5\r\n\r\n"),
    ("400", POST + b"Content-Length: -5\r\n\r\n"),
    ("400", POST + b"Content-Length: +5\r\n\r\n"),
    ("400", POST + b"Content-Length: \r\n\r\n"),
    ("400", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    ("400", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    ("400", b"GET / HTTP/1.0\r\nHost: u@h\r\n\r\n"),
    ("400", POST + b"Content-Length: x\r\n\r\n"),
    ("400", POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ("400", POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"),
    ("400", POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ("400", POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
    ("400", POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n"),
    ("400", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("400", b"GET / HTTP/1.1\r\nHost: \r\n\r\n"),
    ("400", b"GET / HTTP/1.0\r\nHost:\r\n\r\n"),
    ("400", b"GET http://y/ HTTP/1.1\r\n\r\n"),
    ("400", POST + b"Transfer-Encoding: chunked,\r\n\r\n"),
    ("413", POST + b"Content-Length: 1048577\r\n\r\n"),
    ("413", POST + b"Content-Length: 1048577\r\nExpect: 100-continue\r\n\r\n"),
    ("413", POST + b"Content-Length: 99999999999999999999999999\r\n\r\n"),
    ("413", POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"10000\r\n%b\r\n" % bytes(65536) * 16 + b"1\r\nx\r\n"),
    ("414", b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("414", b"GET /" + b"a" * 8192),
    ("414", b"GET /" + b"a" * 100_000),
    ("414", b"GET /" + b"a" * 8192 + b"\n "),
    ("414", b"PROPFIND /" + b"a" * 8192 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("417", GET + b"Expect: 200-maybe\r\n\r\n"),
    ("417", POST + b"Content-Length: 5\r\nExpect: x\r\n\r\n"),
    ("417", GET + b"Expect: 100-continue, gold\r\n\r\n"),
    ("417", GET + b"Expect: 100-continue\r\nExpect: gold\r\n\r\n"),
    ("431", GET + b"A: " + b"a" * 32768 + b"\r\n\r\n"),
    ("431", GET + b"A: " + b"a" * 100_000),
    ("431", GET + b"a" * 100_000),
    ("431", GET + b"".join(b"N%d: x\r\n" % number for number in range(MAX_FIELDS)) + b"\r\n"),
    ("431", GET + b"N: x\r\n" * MAX_FIELDS + b"\r\n"),
    ("431", GET + b"N: x\r\n" * 4000),
    ("431", POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"T: x\r\n" * 20_000),
    ("431", POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nT: " + b"x" * 100_000),
    ("431", POST + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 100_000),
    ("413", POST + b"Content-Length: " + b"0" * 5000 + b"1048577\r\n\r\n"),
    ("501", b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("501", b"BREW http://x/ HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("501", b"M-SEARCH * HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("501", b"PROPFIND / HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("501", b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("501", POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n"),
    ("501", POST + b"Transfer-Encoding: gzip\r\n\r\n"),
    ("505", b"GET / HTTP/2.0\r\nHost: x\r\n\r\n"),
    ("505", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("505", b"GET / HTTP/3.7\r\nHost: x\r\n\r\n"),
    ("505", b"GET / HTTP/0.9\r\nHost: x\r\n\r\n"),
    ("505", b"GET /\r\n\r\n"),
]


@pytest.mark.parametrize("before", [b"", POST + b"Content-Length: 3\r\n\r\nabc"], ids=["alone", "pipelined"])
@pytest.mark.parametrize(("code", "data"), REFUSED, ids=lambda value: str(value)[:70])
def test_refusal_has_its_status_and_is_the_last(http, code, data, before):
    *requests, refusal = http.receive(before + data)
    assert [request.body for request in requests] == [b"abc"] * bool(before)
    assert (refusal.code, http.closing, http.phase) == (code, True, "idle")
    assert http.receive(GET + b"\r\n") == []
    answer = http.encode(None, refusal)
    assert answer.startswith(b"HTTP/1.1 " + code.encode())
    assert b"\r\nConnection: close\r\n" in answer


@pytest.mark.parametrize(
    ("code", "data"), [case for case in REFUSED if case[0] != "501"], ids=lambda value: str(value)[:70]
)
def test_refusal_is_the_same_when_the_bytes_trickle(http, code, data):
    messages = [message for place in range(len(data)) for message in http.receive(data[place : place + 1])]
    assert [message.code for message in messages if message.code != "100"] == [code]


@pytest.mark.parametrize(
    "data",
    [
        b"GET /" + b"a" * 8191 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        GET + b"A: " + b"a" * 32700 + b"\r\n\r\n",
        GET + b"".join(b"N%d: x\r\n" % number for number in range(MAX_FIELDS - 1)) + b"\r\n",
        GET + b"N: x\r\n" * (MAX_FIELDS - 1) + b"\r\n",
        POST + b"Content-Length: %d\r\n\r\n" % MAX_BODY_BYTES + bytes(MAX_BODY_BYTES),
        POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"2\r\nab\r\n" * 30_000 + b"0\r\nT: x\r\n\r\n",
    ],
    ids=["target", "head", "fields", "repeated", "body", "chunks"],
)
def test_what_is_as_large_as_it_may_be_is_served(data):
    assert [message.__class__ for message in messages_of([data * 3])] == [Request] * 3


def test_unfinished_head_behind_a_large_body_is_no_large_head():
    body = POST + b"Content-Length: 60000\r\n\r\n" + bytes(60_000)
    assert len(messages_of([body + GET, b"A: b\r\n\r\n" + GET + b"\r\n"])) == 3


@pytest.mark.parametrize(
    "data",
    [b"HEAD / HTTP/1.1\r\n\r\n", b"HEAD / HTTP/1.1\r\nHost: x\r\nExpect: gold\r\n\r\n", b"HEAD /" + b"a" * 9000,
     b"HEAD / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 60_000, b"HEAD / HTTP/1.1\r\nHost: x\r\n bad\r\n",
     b"HEAD / HTTP/2.0\r\nHost: x\r\n\r\n"],
    ids=lambda data: str(data)[:40],
)  # fmt: skip
@pytest.mark.parametrize("before", [b"", GET + b"\r\n"], ids=["alone", "pipelined"])
def test_refusal_of_head_has_no_body(http, data, before):
    *_, refusal = http.receive(before + data)
    head, _, body = http.encode(None, refusal).partition(b"\r\n\r\n")
    assert b"Content-Length: %d\r\n" % len(refusal.body) in head
    assert (bool(refusal.body), body) == (True, b"")


def test_refusal_behind_a_head_request_has_a_body(http):
    _, refusal = http.receive(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" + b"hello\r\n")
    assert http.encode(None, refusal).endswith(refusal.body)


# Phases and memory.


def test_phase_tells_what_is_read(http):
    phases = []
    for piece in (b"P", b"OST / HTTP/1.1\r\nHost: x\r\n", b"Content-Length: 5\r\n\r\n", b"abcd", b"e", GET + b"\r\nG"):
        http.receive(piece)
        phases.append(http.phase)
    assert phases == ["head", "head", "body", "body", "idle", "head"]


@pytest.mark.parametrize("begun", [b"G", POST + b"Content-Length: 5\r\n\r\na"], ids=["head", "body"])
def test_slow_request_times_out_with_408(http, begun):
    http.receive(begun)
    assert http.timed_out().code == "408"
    assert http.closing
    assert http.receive(b"more") == []


def test_idle_connection_times_out_in_silence(http):
    http.receive(GET + b"\r\n")
    assert http.timed_out() is None
    assert not http.closing


def test_closing_said_by_an_answer_stays_said(http):
    (request,) = http.receive(GET + b"\r\nGET /half")
    request.keep_alive = False  # a drain began
    http.encode(request, Response("200"))
    assert http.closing
    assert http.receive(b" HTTP/1.1\r\nHost: x\r\n\r\n") == []
    assert http.closing


def test_connections_share_parsers_but_not_what_they_read(common):
    connections = [Http1(common, open_body) for _ in range(200)]
    answers = [[] for _ in connections]
    for piece in (b"POST /", b"%d", b" HTTP/1.1\r\nHost: x\r\nContent-Le", b"ngth: 3\r\n\r\n", b"%03d", b"GET /x%d"):
        for number, connection in enumerate(connections):
            answers[number] += connection.receive(piece % number if b"%" in piece else piece)
    for number, (request,) in enumerate(answers):
        assert (request.target, request.body) == (b"/%d" % number, b"%03d" % number)
    assert len(common.spare) <= 64


def test_parser_that_was_refused_is_not_used_again(common):
    for data in (b"\0\r\n", GET + b"Connection: close\r\n\r\n", b"G"):
        Http1(common, open_body).receive(data)
        assert common.spare == []
    Http1(common, open_body).receive(POST + b"Content-Length: 0\r\n\r\n")
    assert len(common.spare) == 1


def parsers():
    """Count them, garbage too."""
    return sum(type(each) is RequestParser for each in gc.get_objects())


def test_parsers_that_are_done_with_leave_no_cycle(common):
    """Only the garbage collector would find one, and so late that memory fills with thousands."""
    before = parsers()
    gc.disable()
    try:
        for data in (b"\0\r\n", POST + b"Connection: close\r\nContent-Length: 0\r\n\r\n"):
            Http1(common, open_body).receive(data)
        slow, cut = Http1(common, open_body), Http1(common, open_body)
        slow.receive(b"G")
        slow.timed_out()
        cut.receive(POST + b"Content-Length: 5\r\n\r\na")
        cut.close()
        many = [Http1(common, open_body) for _ in range(2 * MAX_SPARE_PARSERS)]
        for piece in (b"POST / HTTP/1.1\r\nHost: x\r\n", b"Content-Length: 0\r\n\r\n"):
            for connection in many:
                connection.receive(piece)
        assert parsers() - before == len(common.spare) == MAX_SPARE_PARSERS
    finally:
        gc.enable()


def test_idle_connections_hold_next_to_nothing(common):
    connections = [Http1(common, open_body) for _ in range(1000)]
    tracemalloc.start()
    for connection in connections:
        connection.receive(POST + b"Content-Length: 100000\r\n\r\n" + bytes(100_000))
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 100_000


# Answers.


def answer(http, request_head, response):
    (request,) = http.receive(request_head + b"\r\n")
    return http.encode(request, response)


def test_answer_is_written_in_full(http):
    response = Response("200", b"hello", headers=b"X-A: b\r\nX-C: d\r\n")
    expected = HEAD + PLAIN + b"Content-Length: 5\r\nX-A: b\r\nX-C: d\r\n\r\nhello"
    assert answer(http, GET, response) == expected
    assert not http.closing


def test_answer_names_the_worker_who_executed_it(http):
    data = answer(http, GET, Response("200", worker=b"7"))
    assert b"\r\nX-Worker: 7\r\n" in data


def test_answer_counts_the_pieces_and_leaves_them_to_the_connection(http):
    response = Response("200", b"ab", pieces=Zeros(1000))
    assert answer(http, GET, response) == HEAD + PLAIN + b"Content-Length: 1002\r\n\r\nab"
    assert response.pieces == Zeros(1000)


def test_answer_to_head_has_the_length_of_get_and_no_body(http):
    response = Response("200", b"ab", pieces=Zeros(1000))
    data = answer(http, GET.replace(b"GET", b"HEAD"), response)
    assert data == HEAD + PLAIN + b"Content-Length: 1002\r\n\r\n"
    assert response.pieces is None


@pytest.mark.parametrize(("code", "reason"), [("204", b"No Content"), ("304", b"Not Modified")])
def test_answer_without_content_has_no_length(http, code, reason):
    data = answer(http, GET, Response(code, b"dropped", headers=b"ETag: 1\r\n"))
    assert data == HEAD.replace(b"200 OK", code.encode() + b" " + reason) + b"ETag: 1\r\n\r\n"


def test_answer_says_that_the_connection_closes(http):
    data = answer(http, GET + b"Connection: close\r\n", Response("200", b"x"))
    assert data == HEAD + PLAIN + b"Content-Length: 1\r\nConnection: close\r\n\r\nx"


def test_answer_tells_http_1_0_that_the_connection_stays(http):
    data = answer(http, b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n", Response("200", b"x"))
    assert data == HEAD + PLAIN + b"Content-Length: 1\r\nConnection: keep-alive\r\n\r\nx"


def test_date_changes_when_the_loop_says_so(common, http):
    assert b"22:13:20 GMT" in answer(http, GET, Response("200"))
    common.refresh(1_700_000_001.0)
    assert b"Date: Tue, 14 Nov 2023 22:13:21 GMT\r\n" in answer(http, GET, Response("200"))


@pytest.mark.parametrize(
    ("code", "reason"),
    [("408", b"Request Timeout"), ("413", b"Content Too Large"), ("414", b"URI Too Long"),
     ("422", b"Unprocessable Content"), ("503", b"Service Unavailable")],
)  # fmt: skip
def test_status_line_has_the_reason_of_rfc_9110(http, code, reason):
    assert answer(http, GET, Response(code)).startswith(b"HTTP/1.1 " + code.encode() + b" " + reason + b"\r\n")


# Any split, any bytes.

STREAM = (
    b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n"
    b"\r\nPOST /2 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n\r\n\r\n\0"
    b"PUT /3 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nT: v\r\n\r\n"
    + UPGRADES[1][0]
    + b"POST /sink HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n" + bytes(20_000)
    + b"POST /4 HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 20_000 + b"\r\nContent-Length: 40000\r\n\r\n" + bytes(40_000)
    + b"HEAD /5 HTTP/1.0\r\nConnection: keep-alive\r\nA: 1\r\na: 2\r\n\r\n"
    b"DELETE /6 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
)  # fmt: skip


def test_stream_is_what_the_split_test_takes_it_for():
    targets = [getattr(message, "target", message) for message in messages_of([STREAM])]
    piece = BodyPiece(Reader(), bytes(20_000))
    assert targets == [b"/1", Response("100"), b"/2", b"/3", b"/u", piece, b"/sink", b"/4", b"/5", b"/6"]


@given(st.lists(st.integers(min_value=0, max_value=1 << 20), max_size=30))
def test_any_split_gives_the_same_messages(places):
    assert messages_of(cut(STREAM, places)) == messages_of([STREAM])


def test_stream_in_single_bytes_gives_the_same_messages():
    assert messages_of(STREAM[place : place + 1] for place in range(len(STREAM))) == messages_of([STREAM])


LINES = st.sampled_from(
    [b"GET / HTTP/1.1\r\n", b"POST /sink HTTP/1.1\r\n", b"PUT / HTTP/1.0\r\n", b"Host: x\r\n", b"\r\n", b"\n", b"Host:",
     b"Content-Length: 5\r\n", b"Content-Length:\r\n", b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n",
     b"0\r\n\r\n",
     b"Connection: upgrade\r\nUpgrade: x\r\n", b"Expect: 100-continue\r\n", b"Connection: close\r\n", b"CONNECT ", b" ",
     b"hello", b"HTTP/1.1", b"PRI * HTTP/2.0\r\n\r\n", b"Proxy-Connection: keep-alive\r\n", b"x" * 9000]
)  # fmt: skip


@given(st.lists(st.one_of(st.binary(max_size=100), st.lists(LINES).map(b"".join)), max_size=30))
def test_random_bytes_never_raise(pieces):
    protocol = Http1(CommonHead(b"nginx", b"3"), open_body)
    for piece in pieces:
        for message in protocol.receive(piece):
            if isinstance(message, BodyPiece):
                continue
            response = message if isinstance(message, Response) else Response("200", b"x")
            protocol.encode(None if response is message else message, response)
            assert pickle.loads(pickle.dumps(message)) == message
        assert protocol.phase in ("idle", "head", "body")


CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("endless", [b"a", b"a: b\r\n", b"A" * 50 + b": c\r\n", GET, b"\r\n", b"GET /", b"1\r\nx\r\n"])
@pytest.mark.parametrize("start", [b"", GET, CHUNKED, CHUNKED + b"0\r\n"])
def test_memory_is_bounded_whatever_comes(http, start, endless):
    piece = endless * (60_000 // len(endless))
    http.receive(start)
    tracemalloc.start()
    for _ in range(60):
        http.receive(piece)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 1.3 * MAX_BODY_BYTES


# Responses of an application of one's own: complete headers, and pieces of which nobody knows the size.


class Made:
    """Pieces, and whether they were closed."""

    later = None

    def __init__(self, pieces, size=None):
        self.pieces, self.size, self.closed = pieces, size, False

    def __iter__(self):
        return iter(self.pieces)

    def close(self):
        self.closed = True


def own(pieces=None, body=b"", code="200", headers=b"A: 1\r\n"):
    return Response(code, body, b"", headers, pieces)


def request_of(http, head=GET):
    (request,) = http.receive(head + b"\r\n")
    return request


def test_complete_headers_are_sent_as_they_are(http):
    head = HEAD + b"A: 1\r\n\r\n"
    assert http.encode(request_of(http), own(body=b"body")) == head + b"body"
    assert http.encode(request_of(http, GET.replace(b"GET", b"HEAD")), own(body=b"body")) == head
    assert http.encode(request_of(http), own(code="299")).startswith(b"HTTP/1.1 299 \r\nX-Model: ")


def test_pieces_of_unknown_size_are_chunked(http):
    response = own(Made([b"x" * 17, memoryview(b"y")]), b"first")
    assert http.encode(request_of(http), response) == HEAD + b"A: 1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
    assert list(response.pieces) == [b"11\r\n" + b"x" * 17 + b"\r\n", b"1\r\ny\r\n", b"0\r\n\r\n"]
    assert not http.closing


def test_pieces_of_unknown_size_without_a_beginning_are_chunked(http):
    response = own(Made([]))
    assert http.encode(request_of(http), response).endswith(b"Transfer-Encoding: chunked\r\n\r\n")
    assert list(response.pieces) == [b"0\r\n\r\n"]


@pytest.mark.parametrize("connection", [b"", b"Connection: keep-alive\r\n"])
def test_pieces_of_unknown_size_end_with_the_connection_of_http_1_0(http, connection):
    pieces = Made([b"second"])
    response = own(pieces, b"first")
    request = request_of(http, b"GET / HTTP/1.0\r\n" + connection)
    assert http.encode(request, response) == HEAD + b"A: 1\r\nConnection: close\r\n\r\nfirst"
    assert response.pieces is pieces
    assert http.closing


def test_pieces_of_known_size_are_not_chunked(http):
    response = own(Made([b"cd"], 2), b"ab", headers=b"Content-Length: 4\r\n")
    assert http.encode(request_of(http), response) == HEAD + b"Content-Length: 4\r\n\r\nab"
    assert list(response.pieces) == [b"cd"]


@pytest.mark.parametrize(("method", "code"), [(b"HEAD", "200"), (b"GET", "304")])
def test_pieces_of_a_response_without_a_body_are_closed(http, method, code):
    pieces = Made([b"x"])
    response = own(pieces, code=code)
    assert http.encode(request_of(http, GET.replace(b"GET", method)), response).endswith(b"A: 1\r\n\r\n")
    assert (response.pieces, pieces.closed) == (None, True)


def test_end_of_the_pieces_reaches_who_makes_them(http):
    pieces = Made([])
    response = own(pieces)
    http.encode(request_of(http), response)
    response.pieces.close()
    assert pieces.closed


@pytest.mark.parametrize("fields", [b"Content-Length: 5\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n"])
def test_body_is_bounded_by_who_takes_it(monkeypatch, fields):
    monkeypatch.setattr(Reader, "max_bytes", 4)
    head = b"POST /sink HTTP/1.1\r\nHost: x\r\n"
    *_, refusal = messages_of([head + fields])
    assert (refusal.code, refusal.body) == ("413", b"a body may have 4 bytes\n")


def test_who_takes_the_body_is_known_to_the_request():
    *_, request = messages_of([b"POST /sink HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na"])
    assert isinstance(request.reader, Reader)
    assert request_of(Http1(CommonHead(b"nginx", b"3"), open_body)).reader is None
