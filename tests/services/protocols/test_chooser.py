"""Which protocol a connection gets; echo; and that messages survive the way to another process."""

import pickle

import pytest

from services.messages import Command, Request, Response
from services.protocols import CommonHead, chooser
from services.protocols.echo import Echo
from services.protocols.http1 import Http1
from services.protocols.memcache_text import MemcacheText


def choose(name, first):
    return chooser(name, CommonHead(b"nodejs", b"main"), lambda request: None)(first)


@pytest.mark.parametrize(
    ("first", "protocol"),
    [(b"get a\r\n", MemcacheText), (b"z", MemcacheText), (b"GET / HTTP/1.1\r\n", Http1), (b"\r\n", Http1),
     (b"\0", Http1), (b"\xe4", Http1), (b"{", Http1), (b"`", Http1)],
)  # fmt: skip
def test_auto_looks_at_the_first_byte(first, protocol):
    assert isinstance(choose("auto", first), protocol)


@pytest.mark.parametrize(("name", "protocol"), [("http1", Http1), ("memcache", MemcacheText), ("echo", Echo)])
@pytest.mark.parametrize("first", [b"get a\r\n", b"GET / HTTP/1.1\r\n"])
def test_named_protocol_is_taken_whatever_comes(name, protocol, first):
    assert isinstance(choose(name, first), protocol)


def test_each_connection_has_a_protocol_object_of_its_own():
    choice = chooser("auto", CommonHead(b"nodejs", b"main"), lambda request: None)
    assert choice(b"G") is not choice(b"G")


def test_garbage_gets_400_from_auto():
    (refusal,) = choose("auto", b"\x16\x03\x01").receive(b"\x16\x03\x01")
    assert refusal.code == "400"


def test_echo_gives_every_piece_back():
    echo = Echo()
    (message,) = echo.receive(b"\0piece\xff")
    assert message == Command("echo", value=b"\0piece\xff")
    assert echo.encode(message, Response("ECHO", message.value)) == b"\0piece\xff"
    assert (echo.phase, echo.closing, echo.timed_out()) == ("idle", False, None)


@pytest.mark.parametrize(
    "message",
    [
        Request("PUT", b"/kv/a", {b"host": b"x"}, b"body", 4, keep_alive=False, http_minor=0),
        Command("cas", (b"a", b"b"), b"\0", 1, -2, 3, 4, noreply=True),
        Response("503", b"body", b"text/html", b"Retry-After: 1\r\n", 5, b"3"),
    ],
    ids=["request", "command", "response"],
)
def test_message_survives_pickling(message):
    assert pickle.loads(pickle.dumps(message)) == message
