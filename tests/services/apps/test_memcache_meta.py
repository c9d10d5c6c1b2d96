"""Meta commands on both stores, with a clock: what the comparison with real memcached cannot wait for."""

import pytest

from services.messages import Command


@pytest.fixture
def meta(client):
    """Execute a meta command, with its flags as one would type them."""

    def execute(name, key, flags="", value=b""):
        words = tuple(word.encode() for word in flags.split())
        return client.application(Command(name, (key,), value, meta=words)).body

    return execute


def test_marks_stay_out_of_the_clients_flags(client, meta):
    meta("ms", b"a", "F4294967295 b", b"x")
    meta("mg", b"a", "h l R5")
    assert client.memcache("get", b"a").body == b"VALUE a 4294967295 1\r\nx\r\nEND\r\n"
    assert meta("mg", b"a", "f h") == b"HD f4294967295 h1\r\n"


def test_append_keeps_the_clients_flags_and_takes_the_marks_away(client, meta):
    client.memcache("set", b"a", value=b"x", flags=7)
    meta("md", b"a", "I")
    client.memcache("append", b"a", value=b"y")
    assert meta("mg", b"a", "f v") == b"VA 2 f7\r\nxy\r\n"


def test_mark_changes_neither_cas_nor_expiry(client, meta, clock):
    meta("ms", b"a", "T100", b"x")
    before = meta("mg", b"a", "c t")
    assert meta("mg", b"a", "R200 c t") == before.replace(b"\r\n", b" W\r\n")
    assert meta("mg", b"a", "c t") == before.replace(b"\r\n", b" Z\r\n")


def test_time_left_and_expiry(meta, clock):
    meta("ms", b"a", "T100", b"x")
    clock.now += 40
    assert meta("mg", b"a", "t") == b"HD t60\r\n"
    assert meta("mg", b"a", "T30 t") == b"HD t30\r\n"
    clock.now += 30
    assert meta("mg", b"a", "t v") == b"EN\r\n"


def test_time_since_access_is_that_of_commands_that_ask_for_it(client, meta, clock):
    meta("ms", b"a", "", b"x")
    clock.now += 5
    assert meta("mg", b"a", "l") == b"HD l5\r\n"
    clock.now += 7
    client.memcache("get", b"a")
    assert meta("mg", b"a", "l u") == b"HD l7\r\n"
    assert meta("mg", b"a", "l") == b"HD l7\r\n"
    assert meta("mg", b"a", "l") == b"HD l0\r\n"
    client.memcache("set", b"plain", value=b"x")
    clock.now += 9
    assert meta("mg", b"plain", "l") == b"HD l0\r\n"


def test_stale_item_is_fetched_anew_by_one_client(meta):
    meta("ms", b"a", "", b"x")
    meta("md", b"a", "I T30")
    assert [meta("mg", b"a", "v") for _ in range(2)] == [b"VA 1 X W\r\nx\r\n", b"VA 1 Z X\r\nx\r\n"]
    meta("ms", b"a", "", b"y")
    assert meta("mg", b"a", "v") == b"VA 1\r\ny\r\n"


def test_item_made_by_a_miss_expires(meta, clock):
    assert meta("mg", b"a", "N30 s v") == b"VA 0 s0 W\r\n\r\n"
    assert meta("mg", b"a", "N30 s v") == b"VA 0 s0 Z\r\n\r\n"
    clock.now += 30
    assert meta("mg", b"a", "N30 s v") == b"VA 0 s0 W\r\n\r\n"


def test_debug_tells_what_is_known(meta):
    assert meta("me", b"a") == b"EN\r\n"
    meta("ms", b"a", "", b"value")
    assert meta("me", b"a") == b"ME a exp=-1 la=0 cas=1 fetch=no cls=1 size=6\r\n"


def test_quiet_commands_keep_silent_about_the_usual_only(meta):
    assert meta("ms", b"a", "q", b"x") == b""
    assert meta("ms", b"a", "q ME", b"x") == b"NS\r\n"
    assert meta("mg", b"none", "q") == b""
    assert meta("mg", b"a", "q") == b"HD\r\n"
    assert meta("md", b"a", "q") == b""
    assert meta("md", b"a", "q") == b"NF\r\n"


@pytest.mark.parametrize(
    ("name", "flags", "code"),
    [("mg", "", "END"), ("ms", "", "STORED"), ("ms", "MR", "NOT_STORED"), ("md", "", "NOT_FOUND"), ("ma", "N0", "NUMBER"),
     ("ms", "C5", "NOT_FOUND"), ("mn", "", "OK")],
)  # fmt: skip
def test_code_is_the_classic_commands(client, name, flags, code):
    words = tuple(word.encode() for word in flags.split())
    assert client.application(Command(name, (b"a",), b"x", meta=words)).code == code
