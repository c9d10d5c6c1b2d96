"""What is remembered of earlier requests changes nothing but the time: llhttp would say the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.protocols.http1 import CommonHead, Http1
from services.protocols.known_heads import MAX_BYTES, MAX_KNOWN, KnownHeads

FIELDS = b"Host: x\r\nUser-Agent: test\r\n\r\n"
FIRST = b"GET /first HTTP/1.1\r\n" + FIELDS


def no_sink(_request):
    return None


@pytest.fixture
def common():
    return CommonHead(b"nginx", b"0")


def receive(common, data):
    return Http1(common, no_sink).receive(data)


def parsed(data):
    """What a loop says that has seen nothing yet."""
    return receive(CommonHead(b"nginx", b"0"), data)


def test_repeated_request_is_not_parsed_again(common):
    (first,) = receive(common, FIRST)
    (second,) = receive(common, FIRST)
    assert second is first


def test_known_fields_are_not_parsed_again(common):
    (first,) = receive(common, FIRST)
    (second,) = receive(common, b"HEAD /second?a=b HTTP/1.1\r\n" + FIELDS)
    assert second.headers is first.headers
    assert (second.method, second.target) == ("HEAD", b"/second?a=b")


@pytest.mark.parametrize(
    "line",
    [
        b"GET  /a HTTP/1.1", b"GET /a HTTP/1.0", b"GET /a HTTP/2.0", b"GET /a HTTP/1.1 ", b"get /a HTTP/1.1", b"GET a HTTP/1.1",
        b"GET /\x80 HTTP/1.1", b"GET /a#b HTTP/1.1", b"GET /\tHTTP/1.1", b"BREW /a HTTP/1.1", b"CONNECT /a HTTP/1.1",
        b"PRI * HTTP/2.0", b"GET http://h/a HTTP/1.1", b"OPTIONS * HTTP/1.1", b"", b"GET /a", b"\nGET /a HTTP/1.1",
        b"GET /a HTTP/1.1\nX: y",
    ],
)  # fmt: skip
def test_unusual_line_before_known_fields_is_left_to_the_parser(common, line):
    receive(common, FIRST)
    data = line + b"\r\n" + FIELDS
    assert receive(common, data) == parsed(data)


@pytest.mark.parametrize(
    "block",
    [
        b"Host: x\r\nContent-Length: 2\r\n\r\nab", b"Host: x\r\nContent-Length: 0\r\n\r\n", b"Host: x\r\nConnection: close\r\n\r\n",
        b"Host: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"Host: x\r\nExpect: 100-continue\r\n\r\n",
        b"Host: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", b"\r\n", b"Host: x\r\n", FIELDS + b"GET /2 HTTP/1.1\r\n",
        FIELDS + FIRST,
    ],
)  # fmt: skip
def test_unusual_block_is_parsed_every_time(common, block):
    data = b"PUT /a HTTP/1.1\r\n" + block
    assert receive(common, data) == receive(common, data) == parsed(data)
    assert common.known.recognise(data) is None


def test_first_line_that_hides_a_field_teaches_nothing(common):
    # llhttp takes the bare line feed as the end of the line; the block behind the first CRLF is not all fields.
    receive(common, b"GET / HTTP/1.1\nHost: hidden\r\n\r\n")
    data = b"GET / HTTP/1.1\r\n\r\n"
    (answer,) = receive(common, data)
    assert answer.code == "400"


def test_fields_in_the_middle_of_a_request_are_not_mistaken_for_another(common):
    receive(common, FIRST)
    http = Http1(common, no_sink)
    assert http.receive(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(FIRST)) == []
    (request,) = http.receive(FIRST)
    assert request.body == FIRST


def test_what_is_remembered_is_bounded(common):
    for number in range(2 * MAX_KNOWN):
        receive(common, b"GET / HTTP/1.1\r\nHost: x\r\nX-Number: %d\r\n\r\n" % number)
        receive(common, b"GET /%d HTTP/1.1\r\n" % number + FIELDS)
    receive(common, b"GET /%s HTTP/1.1\r\n" % (b"a" * MAX_BYTES) + FIELDS)
    known = common.known
    assert (len(known.requests), len(known._blocks)) == (MAX_KNOWN, MAX_KNOWN)
    assert max(map(len, known.requests)) <= MAX_BYTES


def test_full_memory_has_room_again_a_second_later(common):
    for number in range(MAX_KNOWN):
        receive(common, b"GET / HTTP/1.1\r\nHost: x\r\nX-Number: %d\r\n\r\n" % number)
    receive(common, FIRST)
    assert FIRST not in common.known.requests
    common.refresh(1.0)
    receive(common, FIRST)
    assert FIRST in common.known.requests


def test_memory_with_room_is_kept():
    known = KnownHeads()
    known.learn(FIRST, parsed(FIRST))
    known.make_room()
    assert FIRST in known.requests


LINES = st.sampled_from(
    [b"GET / HTTP/1.1", b"GET /kv/a HTTP/1.1", b"POST /a HTTP/1.1", b"GET / HTTP/1.0", b"GET / HTTP/1.1\nA: b", b"HEAD /%20 HTTP/1.1", b"X"]
)  # fmt: skip
BLOCKS = st.lists(
    st.sampled_from(
        [b"Host: x\r\n", b"Host: y\r\n", b"Connection: close\r\n", b"Connection: Keep-Alive\r\n", b"Content-Length: 1\r\n", b"A: b\r\n c\r\n",
         b"Upgrade: x\r\n", b"Expect: 100-continue\r\n", b"A:\r\n", b"A: b\n", b"\r\n", b"1"]
    ), max_size=4,
).map(b"".join)  # fmt: skip


@given(st.lists(st.tuples(LINES, BLOCKS), max_size=20))
def test_memory_changes_no_answer(heads):
    common = CommonHead(b"nginx", b"0")
    for line, block in heads:
        data = line + b"\r\nHost: z\r\n" + block + b"\r\n"
        for _ in range(2):
            assert receive(common, data) == parsed(data)
