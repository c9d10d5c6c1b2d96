"""Meta commands, byte by byte; replies and refusals beside real memcached."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.apps import Identity, make_application
from services.apps.memory_store import MemoryStore
from services.messages import Command, Response
from services.protocols.memcache_text import MemcacheText

K250, K251 = b"k" * 250, b"k" * 251
SET, GET = b"ms a 3\r\nold\r\n", b"mg a v\r\n"
KATAKANA = b"44OG44K544OI"

VALID = [
    (b"mg a\r\n", Command("mg", (b"a",))),
    (b"mg a v t Oabc q\r\n", Command("mg", (b"a",), meta=(b"v", b"t", b"Oabc", b"q"))),
    (b"mg YWI= b k\r\n", Command("mg", (b"ab",), meta=(b"b", b"k"))),
    (b"ms a 2 T30 F5 c\r\nhi\r\n", Command("ms", (b"a",), b"hi", meta=(b"T30", b"F5", b"c"))),
    (b"md a I T30\r\n", Command("md", (b"a",), meta=(b"I", b"T30"))),
    (b"ma a N0 J13 D2 MD\r\n", Command("ma", (b"a",), meta=(b"N0", b"J13", b"D2", b"MD"))),
    (b"mn\r\n", Command("mn")),
    (b"me YWI= b\r\n", Command("me", (b"ab",))),
]
STREAMS = [
    # Each command, and its flags in any order.
    SET + GET + b"mg a\r\nmg a s v f c t k Oxyz\r\nmg a Oxyz k t c f v s\r\nmg none k Oxyz v\r\nmg none v q\r\nmn\r\n",
    b"ms a 2 F4294967295 T0 c k Oxy\r\nhi\r\nmg a f t c v\r\nget a\r\ngets a\r\nms a 0\r\n\r\nmg a v s\r\n",
    b"ms a 2 T100\r\nhi\r\nmg a t\r\nmg a T200 t\r\nmg a t T300\r\nmg a T0 t\r\nmg a t\r\n",
    b"ms a 2 q\r\nhi\r\nms a 2 ME q\r\nhi\r\nmd a q\r\nmd a q\r\nmg a q v\r\nmn\r\n",
    # Modes, and what they compare.
    SET + b"ms a 1 ME\r\nx\r\nms b 1 ME\r\nx\r\nms a 1 MR F3\r\ny\r\nms n 1 MR\r\ny\r\nms a 1 MS\r\nz\r\nmg a v f\r\n",
    SET + b"ms a 1 MA c F9\r\nx\r\nms a 1 MP\r\ny\r\nms n 1 MA\r\nx\r\nms a 1 MA C1\r\nx\r\nms a 1 MA C0\r\nx\r\nmg a v f c\r\n",
    SET + b"ms a 1 C1 c\r\nx\r\nms a 1 C1 c k\r\ny\r\nms n 1 C1 c\r\ny\r\nms a 1 C0\r\ny\r\nms a 1 C2 MR\r\nz\r\nmg a v c\r\n",
    SET + b"md a C7 k\r\nmd a C1 Oo k\r\nmd a Oo k\r\nmg a v\r\n",
    # Numbers.
    b"ma n\r\nma n N0 J13 v t c\r\nma n v\r\nma n D30 v\r\nma n MD D4 v t k Oo\r\nma n M- v\r\nma n M+ v\r\nma n MI\r\nmg n v s\r\n",
    b"ma n N90 t v\r\nma n T300 t v\r\nma n t T0\r\nmg n t\r\nma n C99 v k\r\nma n C3 c v\r\nma n q\r\nma m q N5\r\nmn\r\n",
    b"ms n 2\r\n10\r\nma n MD D3 v\r\nma n D18446744073709551615 v\r\nmg n v s\r\nget n\r\n",
    b"ms n 1\r\nx\r\nma n\r\nma n q\r\nms n 0\r\n\r\nma n C5\r\nma n k Oo\r\nma m k Oo MD\r\n",
    # Hit before.
    b"ms a 1\r\nx\r\nmg a h u\r\nmg a h\r\nmg a h\r\nmg a h u v\r\n",
    # Who fetches anew.
    b"mg a N30 v t c\r\nmg a N30 v t\r\nmg a v\r\nms a 1 C99\r\nx\r\nms a 1 C1 T50\r\nx\r\nmg a v N30\r\nmg a R60 v\r\nmg a R60 v\r\nmg a R0\r\n",
    b"ms a 1\r\nx\r\nmg a R30\r\nms a 1 T40\r\nx\r\nmg a R30\r\nmg a R50 t\r\nmg a t N5\r\n",
    SET + b"md a I T30\r\nmg a v t c\r\nmg a v\r\nms a 1 C1 I c\r\nx\r\nmg a v t\r\nms a 1 C3 T90\r\ny\r\nmg a v t c\r\n",
    SET + b"md a I q\r\nmg a s v\r\nmg a N30\r\nms a 1 I C99\r\nx\r\nget a\r\nmd a I C99\r\nmd none I\r\nappend a 0 0 1\r\nx\r\nmg a v\r\n",
    # Keys in base64.
    b"ms " + KATAKANA + b" 2 b k\r\npo\r\nmg " + KATAKANA + b" v\r\nmg " + KATAKANA + b" b v k\r\nmd " + KATAKANA + b" b k\r\n",
    b"ms YQ== 1 b\r\nx\r\nmg a k v\r\nget a\r\nma YQ== b k\r\nmg YQ== b k N5\r\nmg Yg== b k N5\r\nmg Yw== b k\r\nme none\r\n",
    # Refused.
    b"mg\r\nms\r\nmd\r\nma\r\nme\r\nmx a\r\nm\r\nmgg a\r\nmn foo\r\nms a\r\nms a x\r\nms a -1\r\nms a 2147483648\r\n",
    b"".join(name + K251 + b" 1\r\n" for name in (b"mg ", b"ms ", b"md ", b"ma ", b"me ")),
    b"mg a v v\r\nmg a w\r\nmg a \xff\r\nmg a m o o o o\r\nmd a v v\r\nma a w\r\nmd a Cx\r\nma a Dx\r\n",
    b"mg a Tx\r\nmg a T\r\nmg a Rx\r\nmg a Nx\r\nmg a Cx\r\nmg a Fx\r\nmg a Mxx\r\nmg a M\r\nmg a Jx\r\nmg a Dx\r\nmg a Tx Fx\r\n",
    b"mg a Tx Jx\r\nmg a Tx w\r\nmg a Mx\r\nmg a I S\r\nmg a Lx Px\r\nmg ? b\r\nmg abc b\r\nmg abc\r\nme abc b\r\nma abc b\r\n",
    b"mg a O" + b"o" * 31 + b"\r\nmg a O" + b"o" * 32 + b"\r\nmd a O" + b"o" * 32 + b"\r\nma a O" + b"o" * 32 + b"\r\n",
    b"".join(name + b" q b c f h k l O s t u v C1 D1 F1 J1 I" + more + b"\r\n" for name in (b"mg a", b"md a", b"ma a") for more in (b"", b" T1", b" T1 N1")),
    SET + b"ms a 3 v v\r\nget a\r\nms a 3 MZ\r\nnew\r\nms a 3 Tx q\r\nnew\r\nms a 3 O" + b"o" * 32 + b"\r\nnew\r\nma a MZ\r\n" + GET,
    SET + b"ms a 2\r\nold\r\n" + GET + GET,
    SET + b"ms a 1048577\r\n" + b"x" * 1048577 + b"\r\n" + GET,
    SET + b"ms a 1048577 ME q\r\n" + b"x" * 1048577 + b"\r\n" + GET,
    SET + b"mg a s\r\nmg a s\r\nquit\r\nmg a s\r\n",
]  # fmt: skip


def messages_of(pieces):
    protocol = MemcacheText()
    return [message for piece in pieces for message in protocol.receive(piece)]


def cut(data, places):
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def our_reply_to(pieces):
    protocol = MemcacheText()
    application = make_application(Identity("memcached", "0"), MemoryStore(), {}, lambda name: None, lambda: True)
    reply = b""
    for message in (message for piece in pieces for message in protocol.receive(piece)):
        own = isinstance(message, Response)
        reply += protocol.encode(None, message) if own else protocol.encode(message, application(message))
    return reply


@pytest.mark.parametrize(("data", "command"), VALID, ids=lambda value: str(value)[:40])
def test_command_is_understood(data, command):
    assert messages_of([data]) == [command]


@pytest.mark.parametrize("data", STREAMS, ids=lambda data: f"{str(data)[:70]}-{len(data)}")
def test_stream_gets_the_reply_of_real_memcached(memcached_started, data):
    reply = memcached_started().reply_to(data)
    assert our_reply_to([data]) == reply
    assert our_reply_to(data[start : start + 1000] for start in range(0, len(data), 1000)) == reply


STREAM = b"".join(data for data, _ in VALID) + b"".join(data for data in STREAMS if b"quit" not in data)


@given(st.lists(st.integers(min_value=0, max_value=1 << 22), max_size=20))
def test_any_split_gives_the_same_messages(places):
    assert messages_of(cut(STREAM, places)) == messages_of([STREAM])


@pytest.fixture(scope="module")
def real_memcached(memcached_started):
    return memcached_started()


WORDS = st.sampled_from(
    [b"v", b"t", b"q", b"k", b"b", b"T30", b"Tx", b"N0", b"N", b"R-1", b"C1", b"Cx", b"C-1", b"D1", b"Dx", b"F1", b"Fx", b"J1",
     b"Jx", b"MI", b"ME", b"MX", b"M", b"O1", b"O" + b"o" * 40, b"I", b"Lx", b"w", b"\x7f", b"\xff", b"noreply"]
)  # fmt: skip


@given(
    st.sampled_from([b"mg a ", b"ms a 1 ", b"md a ", b"ma a ", b"me a ", b"mn "]),
    st.lists(WORDS, max_size=24),
    st.booleans(),
)
def test_any_flags_are_refused_as_real_memcached_refuses_them(real_memcached, head, flags, block):
    data = head + b" ".join(flags) + (b"\r\nx\r\n" if head.startswith(b"ms") or block else b"\r\n") + b"version\r\n"
    # An item that another example has left must not decide what is an error.
    theirs = real_memcached.reply_to(b"flush_all noreply\r\n" + data)
    errors = [line for line in theirs.split(b"\r\n") if b"ERROR" in line]
    ours = [line for line in our_reply_to([data]).split(b"\r\n") if b"ERROR" in line]
    assert ours == errors
