"""Streams of bytes through protocol and application together, beside real memcached; and memcapable's verdict."""

import subprocess

import pytest

from services.apps import Identity, make_application
from services.apps.memory_store import MemoryStore
from services.messages import Response
from services.protocols.memcache_text import MemcacheText

CAPABLE_SECONDS = 60
K250, K251 = b"k" * 250, b"k" * 251
SET = b"set a 0 0 3\r\nold\r\n"
SEES_A = b"get a\r\n"

STREAMS = [
    # Storage, and that the next command is found.
    b"set a 1 0 5\r\nhello\r\nget a\r\nset b 4294967295 0 0\r\n\r\nget a b c a\r\n",
    b"set a 0 0 9\r\n\r\nget b\r\n\r\nget a\r\n",
    b"set a 0 0 2\nhi\r\nget a\n",
    b"set a 0 0 2\r\nhi\nget a\r\nget a\r\n",
    b"set " + K250 + b" 0 0 1\r\nx\r\nget " + K250 + b"\r\n",
    SET + b"set " + K251 + b" 0 0 1\r\nx\r\n" + SEES_A,
    SET + b"set " + K251 + b" 0 0 1 noreply\r\nx\r\n" + SEES_A,
    b"set a\tb\x01\xff 0 0 1\r\nx\r\nget a\tb\x01\xff\r\n",
    SET + b"add a 0 0 1\r\nx\r\nreplace a 2 0 1\r\ny\r\nappend a 9 0 1\r\nz\r\nprepend a 9 0 1\r\nx\r\n" + SEES_A,
    b"replace a 0 0 1\r\ny\r\nappend a 0 0 1\r\nz\r\nprepend a 0 0 1\r\nx\r\nadd a 0 0 1\r\nx\r\n" + SEES_A,
    # Data blocks of another length than announced.
    SET + b"set a 0 0 3\r\nabcd\r\n" + SEES_A,
    SET + b"set a 0 0 3\r\nab\r\n" + SEES_A + SEES_A,
    SET + b"set a 0 0 3\r\nabcdefghij\r\n" + SEES_A,
    SET + b"set a 0 0 3\r\nabcget a\r\n" + SEES_A,
    SET + b"set a 0 0 3 noreply\r\nabcd\r\n" + SEES_A,
    SET + b"add b 0 0 0\r\nx\r\n" + SEES_A,
    SET + b"set a 0 0 3\r\n\r\n" + SEES_A + SEES_A,
    # Values that are too large.
    SET + b"set a 0 0 1048577\r\n" + b"x" * 1048577 + b"\r\n" + SEES_A,
    SET + b"set a 0 0 1048577 noreply\r\n" + b"x" * 1048577 + b"\r\n" + SEES_A,
    SET + b"add a 0 0 1048577\r\n" + b"x" * 1048577 + b"\r\n" + SEES_A,
    SET + b"replace a 0 0 1048577\r\n" + b"x" * 1048577 + b"\r\n" + SEES_A,
    SET + b"append a 0 0 1048577\r\n" + b"x" * 1048577 + b"\r\n" + SEES_A,
    SET + b"cas a 0 0 1048577 1\r\n" + b"x" * 1048577 + b"\r\n" + SEES_A,
    SET + b"set a 0 0 1048577\r\n" + b"x" * 1048570 + SEES_A * 3,
    SET + b"set a 0 0 -1\r\n" + SEES_A,
    SET + b"set a 0 0 -1 noreply\r\n" + SEES_A,
    SET + b"set a x 0 3\r\nabc\r\n" + SEES_A,
    b"set a 0 0 99999999999 noreply\r\n" + SEES_A,
    # Expiry.
    b"set a 0 -1 1\r\nx\r\nget a\r\nset a 0 2592001 1\r\nx\r\nget a\r\nset a 0 2592000 1\r\nx\r\nget a\r\n",
    SET + b"touch a 100\r\ntouch b 100\r\ntouch a 100 noreply\r\nget a\r\ntouch a -1\r\nget a\r\n",
    SET + b"gat 100 a b\r\ngats 100 a b\r\ngat -1 a\r\nget a\r\ngat 0\r\ngats 1 " + K251 + b"\r\n",
    # cas.
    SET + b"gets a\r\ncas a 1 0 1 0\r\nx\r\ncas a 1 0 1 1\r\nx\r\ngets a\r\ncas a 1 0 1 1\r\ny\r\ncas b 0 0 1 1\r\ny\r\n",
    SET + b"append a 0 0 1\r\nx\r\ngets a\r\nadd a 0 0 1\r\nx\r\ngets a\r\ntouch a 100\r\ngets a\r\n",
    SET + b"cas a 0 0 1 1 noreply\r\nx\r\ngets a\r\ncas a 0 0 1 1 noreply\r\ny\r\ngets a\r\n",
    # Numbers.
    b"set n 5 0 2\r\n10\r\nincr n 1\r\ndecr n 3\r\nget n\r\ndecr n 100\r\nget n\r\nincr n 5 noreply\r\ngets n\r\n",
    b"set n 0 0 20\r\n18446744073709551615\r\nincr n 1\r\nget n\r\nincr n 18446744073709551615\r\nget n\r\n",
    b"set n 0 0 1\r\nx\r\nincr n 1\r\ndecr n 1\r\nincr m 1\r\ndecr m 1\r\nincr n 1 noreply\r\nincr m 1 noreply\r\n",
    b"set n 0 0 0\r\n\r\nincr n 1\r\nset n 0 0 2\r\n-1\r\nincr n 1\r\nset n 0 0 3\r\n 1 \r\nincr n 1\r\nget n\r\n",
    # Deletion.
    SET + b"delete a\r\ndelete a\r\nget a\r\n",
    SET + b"delete a 0\r\n" + SET + b"delete a 1\r\nget a\r\ndelete a noreply\r\nget a\r\n",
    SET + b"delete a 0 noreply\r\nget a\r\n",
    SET + b"flush_all\r\nget a\r\n" + SET + b"get a\r\n",
    SET + b"flush_all 0\r\nget a\r\nflush_all noreply\r\nflush_all -1\r\nflush_all 0 noreply\r\nget a\r\n",
    SET + b"flush_all 100\r\nget a\r\nflush_all 100 noreply\r\nget a\r\n",
    # Neither good nor bad for more than themselves.
    b"\r\n\r\n" + SET + b"\n" + SEES_A,
    b"verbosity 1\r\nverbosity 1 noreply\r\nverbosity\r\nverbosity 1 2 3\r\n" + SET,
    b"foo noreply\r\nget\r\nget \r\nset noreply\r\n" + SET + SEES_A,
    b"stats reset\r\nstats reset x\r\nstats nothing\r\n" + SET,
    SET + b"quit\r\n" + SEES_A,
    SET + b"get " + b"a " * 1000 + b"\r\n",
    b"get " + b"a " * 23 + K251 + b"\r\n" + SEES_A,
    SET + b"get a",
    b"set a 0 0 10\r\nabc",
]  # fmt: skip


def our_reply_to(pieces):
    protocol = MemcacheText()
    application = make_application(Identity("memcached", "0"), MemoryStore(), {}, lambda name: None, lambda: True)
    reply = b""
    for piece in pieces:
        for message in protocol.receive(piece):
            own = isinstance(message, Response)
            reply += protocol.encode(None, message) if own else protocol.encode(message, application(message))
    return reply


@pytest.mark.parametrize("data", STREAMS, ids=lambda data: f"{str(data)[:70]}-{len(data)}")
def test_stream_gets_the_reply_of_real_memcached(memcached_started, data):
    reply = memcached_started().reply_to(data)
    assert our_reply_to([data]) == reply
    assert our_reply_to(data[start : start + 1000] for start in range(0, len(data), 1000)) == reply


def test_memcapable_finds_no_fault_with_the_server(serve, require_tool):
    program = require_tool("memccapable")  # Debian's name for libmemcached's memcapable
    server = serve("memcached", "--protocol", "memcache")
    command = [program, "-h", "127.0.0.1", "-p", str(server.port), "-a"]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=CAPABLE_SECONDS, check=False)
    lines = (outcome.stdout + outcome.stderr).splitlines()
    verdicts = [line for line in lines if line.startswith("ascii ")]
    assert [line for line in verdicts if not line.endswith("[pass]")] == []
    assert len(verdicts) > 20, lines
    assert outcome.returncode == 0, lines
