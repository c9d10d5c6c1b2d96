"""Long gets: batches of keys, whatever the pieces; and the replies that become one."""

import time
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.messages import Command, Response
from services.protocols.memcache_gets import BATCH_KEYS, MIN_PIECES_BYTES
from services.protocols.memcache_text import MAX_LINE_BYTES, MemcacheText

K250, K251 = b"k" * 250, b"k" * 251
NOT_FOUND_SO_FAR, FOUND = Response("", b""), Response("", b"VALUE a 0 1\r\n1\r\n")
BAD_LINE = b"CLIENT_ERROR bad command line format\r\n"


def messages_of(pieces):
    protocol = MemcacheText()
    return [message for piece in pieces for message in protocol.receive(piece)]


def cut(data, places):
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def in_pieces_of(size, data):
    return [data[start : start + size] for start in range(0, len(data), size)]


def line_of(name, keys):
    return b" ".join([name, *keys]) + b"\r\n"


def commands_of(keys, name="get", exptime=0):
    starts = range(0, len(keys), BATCH_KEYS)
    commands = [Command(name, keys[start : start + BATCH_KEYS], exptime=exptime, partial=True) for start in starts]
    commands[-1].partial = False
    return commands


@pytest.mark.parametrize("number", [1, 15, 16, 17, 32, 33, 5000])
@pytest.mark.parametrize("size", [1, 700, 1 << 20])
def test_many_keys_become_batches(number, size):
    keys = tuple(b"a-key-of-some-length-%d" % number for number in range(number))
    assert messages_of(in_pieces_of(size, line_of(b"get", keys))) == commands_of(keys)
    timed = in_pieces_of(size, line_of(b"gats 100", keys))
    assert messages_of(timed) == commands_of(keys, "gats", 100)


LINES = st.lists(
    st.builds(
        lambda name, keys, blanks, end: name + b" " + (b" " * blanks).join([*keys, b""]) + end + b"\nversion\r\n",
        st.sampled_from([b"get", b"  gets", b"gat 5", b"gats  -1", b"gat x"]),
        st.lists(st.sampled_from([b"a", b"b\tc", b"d\r", K250, b"noreply", b"get"]), max_size=60),
        st.integers(1, 3),
        st.sampled_from([b"", b"\r", b"last\r", K250 + b"\r", b"\0 not seen\r", b"x\0"]),
    ),
    min_size=1,
    max_size=4,
)


@given(LINES, st.lists(st.integers(min_value=0, max_value=1 << 16), max_size=12))
def test_any_split_gives_the_same_commands(lines, places):
    data = b"".join(lines)
    assert messages_of(cut(data, places)) == messages_of([data])


@pytest.mark.parametrize("size", [1, 1000, 1 << 16])
def test_line_of_any_length_is_read_in_constant_memory(size):
    protocol = MemcacheText()
    piece = (K250 + b" ") * 200
    protocol.receive(b"get " + piece)
    tracemalloc.start()
    for start in range(0, 4 * MAX_LINE_BYTES, size):
        for message in protocol.receive((piece * 2)[start % 251 :][:size]):
            assert len(message.keys) == BATCH_KEYS or message.code
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 20_000
    assert protocol.phase == "head"


@pytest.mark.parametrize("beginning", [b"", b"gat "])
def test_blanks_one_by_one_are_not_gone_through_again_and_again(beginning):
    protocol = MemcacheText()
    protocol.receive(beginning + b" " * (MAX_LINE_BYTES - 4000))
    before = time.process_time()
    for _ in range(3000):
        assert protocol.receive(b" ") == []
    assert time.process_time() - before < 3  # of the processor, for a third of a second's work


def test_bad_key_in_a_whole_line_spoils_all_of_it():
    data = line_of(b"get", [b"a"] * 40 + [K251] + [b"a"] * 40)
    assert len(data) < MIN_PIECES_BYTES
    for pieces in ([data], in_pieces_of(100, data)):
        assert [message.body for message in messages_of([*pieces, b"version\r\n"])[:-1]] == [BAD_LINE]


def test_bad_key_in_a_line_in_pieces_ends_the_reply_and_the_next_command_is_found():
    data = line_of(b"get", [b"a"] * 2000 + [b"k" * 5000] + [b"a"] * 2000)
    *batches, error, version = messages_of(in_pieces_of(100, data + b"version\r\n"))
    assert {command.partial for command in batches} == {True}
    assert (error.body, version) == (BAD_LINE, Command("version"))


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"gat x " + b"a " * 2000, b"CLIENT_ERROR invalid exptime argument\r\n"),
        (b"get" + b" " * 5000, b"ERROR\r\n"),
        (b"get \0" + b"a " * 5000, b"ERROR\r\n"),
    ],
    ids=["exptime", "blanks", "nul"],
)
def test_line_in_pieces_is_refused_once(line, reply):
    error, version = messages_of(in_pieces_of(3000, line + b"\r\nversion\r\n"))
    assert (error.body, version) == (reply, Command("version"))


@pytest.mark.parametrize(
    ("parts", "last", "body", "code"),
    [
        ([NOT_FOUND_SO_FAR], Response("END", b"END\r\n"), b"END\r\n", "END"),
        ([FOUND, NOT_FOUND_SO_FAR], Response("END", b"END\r\n"), FOUND.body + b"END\r\n", "VALUE"),
        ([FOUND, Response("SERVER_ERROR", b"SERVER_ERROR x\r\n"), FOUND], Response("END", b"END\r\n"),
         FOUND.body + b"SERVER_ERROR x\r\n", "END"),
    ],
    ids=["nothing", "values", "error"],
)  # fmt: skip
def test_replies_to_batches_become_one(parts, last, body, code):
    protocol = MemcacheText()
    batch, end = Command("get", (b"a",), partial=True), Command("get", (b"a",))
    got = b"".join([protocol.encode(batch, part) for part in parts] + [protocol.encode(end, last)])
    assert (got, last.code) == (body, code)
    assert protocol.encode(end, Response("END", b"END\r\n")) == b"END\r\n"


def test_error_behind_batches_ends_the_reply():
    protocol = MemcacheText()
    protocol.encode(Command("get", (b"a",), partial=True), FOUND)
    assert protocol.encode(None, Response("CLIENT_ERROR", BAD_LINE)) == BAD_LINE
    after = Response("END", b"END\r\n")
    assert (protocol.encode(Command("get", (b"a",)), after), after.code) == (b"END\r\n", "END")
