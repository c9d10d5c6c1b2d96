"""The two readers of requests agree: the quick one for the usual form, and the one that reads any."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.messages import Request
from services.protocols.http1_parser import MAX_PLAIN_BYTES, PIECE_BYTES, PlainRequests, RequestParser

GET = b"GET / HTTP/1.1\r\nHost: x\r\n"


def read_by_any(data):
    """Messages that the reader of any request finds in `data`, and whether it could go on."""
    parser = RequestParser()
    parser.open_body = lambda _request: None
    return parser.receive(data), parser.closing, parser.phase


def agree(data):
    """Hold that a plain request is what the other reader takes it for; return it."""
    request = PlainRequests().read(data)
    if request is not None:
        assert isinstance(request.headers, dict)  # and from now on its `fields`
        assert read_by_any(data) == ([request], not request.keep_alive, "idle")
    return request


@pytest.mark.parametrize(
    "data",
    [
        GET + b"\r\n",
        b"HEAD /a?b=c HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n",
        b'POST /counters/a HTTP/1.1\r\nHost: [::1]:80\r\nIdempotency-Key: "k"\r\n\r\n',
        GET + b"Connection: keep-alive\r\nUpgrade-Insecure-Requests: 1\r\n\r\n",
        GET + b"Cookie: a=b; c=d\r\ncookie: e\r\nX:\t y \t\r\nEmpty:\r\nH: \xff\r\n\r\n",
        GET + b"traceparent: 00-4b-00-01\r\nTE: trailers\r\nPragma: no-cache\r\nExtra: 1\r\n\r\n",
        GET + b"\r\n\r\n\r\n",
        GET + b"Connection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nConnection: close\r\nHost: x\r\n\r\n\r\n",
        GET + b"A: " + b"a" * (MAX_PLAIN_BYTES - len(GET) - 7) + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 500 + b"Host: x\r\n\r\n",
    ],
)
def test_usual_request_is_read_at_once(data):
    assert agree(data) is not None


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\r\n\r\n", GET, b"\r\n" + GET + b"\r\n", GET * 2 + b"\r\n", (GET + b"\r\n") * 2,
        b"GET / HTTP/1.0\r\nHost: x\r\n\r\n", b"GET / HTTP/1.2\r\nHost: x\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n",
        b"GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", GET + b"host: y\r\n\r\n",
        GET + b"Connection: close\r\nConnection: close\r\n\r\n", GET + b"Host: y\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", GET + b"Host: close\r\n\r\n",
        GET + b"CONNECTION: close\r\n\r\n", GET + b"Connection: keep-alive, close\r\n\r\n",
        GET + b"Proxy-Connection: close\r\n\r\n", GET + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        GET + b"content-length: 0\r\n\r\n", GET + b"Content-Length: 4\r\n\r\n\r\n\r\n",
        GET + b"Transfer-encoding: chunked\r\n\r\n0\r\n\r\n", GET + b"EXPECT: gold\r\n\r\n",
        GET + b"A: b\r\n folded\r\n\r\n", GET + b"A: b\nTransfer-Encoding: chunked\r\n\r\n", GET + b"A : b\r\n\r\n",
        GET + b"A: " + b"a" * MAX_PLAIN_BYTES + b"\r\n\r\n",
    ],
    ids=lambda data: str(data)[:60],
)  # fmt: skip
def test_unusual_request_is_left_to_the_other_reader_and_spoils_nothing(data):
    plain = PlainRequests()
    assert plain.read(data) is None
    assert isinstance(plain.read(GET + b"\r\n"), Request)


LINES = st.sampled_from(
    [b"GET / HTTP/1.1\r\n", b"POST /a?b HTTP/1.1\r\n", b"PUT / HTTP/1.0\r\n", b"GET / HTTP/1.2\r\n", b"Host: x\r\n",
     b"host: x\r\n", b"Host: x \r\n", b"Host:\r\n", b"Host: a b\r\n", b"\r\n", b"\n", b"\r", b"A: b\r\n", b"a: c\t\r\n",
     b"Content-Length: 0\r\n", b"content-length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"hello",
     b"Connection: keep-alive\r\n", b"Connection: close\r\n", b"connection: upgrade\r\nUpgrade: x\r\n", b"Expect: x\r\n",
     b"EXPECT: 100-continue\r\n", b"Cookie: \xff\r\n", b" folded\r\n", b"T: \0\r\n", b"CONNECT ", b"HEAD ", b"/x HTTP/1.1\r\n"]
)  # fmt: skip
HEADS = st.builds(
    lambda line, fields, rest: line + b"".join(fields) + b"\r\n" + rest,
    st.sampled_from([b"GET / HTTP/1.1\r\nHost: x\r\n", b"HEAD /a HTTP/1.1\r\n", b"POST http://y/ HTTP/1.1\r\n"]),
    st.lists(LINES | st.binary(max_size=20), max_size=8),
    st.sampled_from([b"", b"\r\n", GET + b"\r\n"]),
)


@example(GET + b"\r\n")
@given(HEADS | st.lists(LINES).map(b"".join) | st.binary(max_size=200).map(lambda data: data + b"\r\n\r\n"))
def test_both_readers_agree_on_any_bytes(data):
    agree(data)


@given(st.lists(HEADS, max_size=5))
def test_what_was_read_before_makes_no_difference(heads):
    plain = PlainRequests()
    for data in heads:
        assert plain.read(data) == PlainRequests().read(data)


def test_letters_without_end_take_linear_time():
    before = time.process_time()
    for _ in range(10):
        (refusal,), closing, _ = read_by_any(b"A" * PIECE_BYTES)
        assert (refusal.code, closing) == ("400", True)
    assert time.process_time() - before < 2  # of the processor, for a few milliseconds' work; squared, half a minute's
