"""memcached's rules, one by one, on both stores; numbers against the C library's own strtoull."""

import ctypes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.apps import Identity, make_application
from services.apps.memcache_commands import added
from services.apps.memory_store import MemoryStore
from services.messages import Command

MONTH_SECONDS = 30 * 24 * 3600
TWO_TO_64 = 1 << 64


def value_of(client, key=b"a"):
    reply = client.memcache("get", key)
    return reply.body.split(b"\r\n")[1] if reply.code == "VALUE" else None


def cas_of(client, key=b"a"):
    return int(client.memcache("gets", key).body.split(b"\r\n")[0].split()[4])


def test_get_answers_in_the_order_asked_and_leaves_out_what_is_missing(client):
    client.memcache("set", b"a", value=b"1\r\n2", flags=4294967295)
    client.memcache("set", b"b", value=b"")
    reply = client.memcache("get", b"b", b"none", b"a", b"b")
    assert reply.body == b"VALUE b 0 0\r\n\r\nVALUE a 4294967295 4\r\n1\r\n2\r\nVALUE b 0 0\r\n\r\nEND\r\n"
    assert (reply.code, client.memcache("get", b"none").code) == ("VALUE", "END")


def test_partial_get_has_no_end_and_no_code(client):
    client.memcache("set", b"a", value=b"1")
    reply = client.memcache("get", b"a", b"none", partial=True)
    assert (reply.code, reply.body) == ("", b"VALUE a 0 1\r\n1\r\n")
    assert client.memcache("gat", b"none", partial=True).body == b""


@pytest.mark.parametrize(
    ("name", "on_missing", "on_present"),
    [
        ("set", "STORED", "STORED"),
        ("add", "STORED", "NOT_STORED"),
        ("replace", "NOT_STORED", "STORED"),
        ("append", "NOT_STORED", "STORED"),
        ("prepend", "NOT_STORED", "STORED"),
        ("cas", "NOT_FOUND", "EXISTS"),
    ],
)
def test_storage_commands_ask_whether_the_key_is_there(client, name, on_missing, on_present):
    client.memcache("set", b"present", value=b"x")
    assert client.memcache(name, b"missing", value=b"y").body == on_missing.encode() + b"\r\n"
    assert client.memcache(name, b"present", value=b"y").code == on_present


def test_append_and_prepend_keep_flags_and_expiry(client, clock):
    client.memcache("set", b"a", value=b"b", flags=5, exptime=10)
    client.memcache("append", b"a", value=b"c", flags=9, exptime=0)
    client.memcache("prepend", b"a", value=b"a", flags=9, exptime=0)
    assert client.memcache("get", b"a").body == b"VALUE a 5 3\r\nabc\r\nEND\r\n"
    clock.now += 10
    assert value_of(client) is None


def test_cas_stores_only_what_nobody_changed(client):
    client.memcache("set", b"a", value=b"1")
    seen = cas_of(client)
    assert client.memcache("cas", b"a", value=b"2", cas=seen).code == "STORED"
    assert client.memcache("cas", b"a", value=b"3", cas=seen).code == "EXISTS"
    assert client.memcache("cas", b"a", value=b"3", cas=TWO_TO_64 - 1).code == "EXISTS"
    assert value_of(client) == b"2"


def test_every_change_gives_a_new_cas_and_a_touch_does_not(client):
    client.memcache("set", b"a", value=b"1")
    seen = [cas_of(client)]
    for command in (
        ("set", {"value": b"1"}),
        ("append", {"value": b"1"}),
        ("incr", {"delta": 1}),
        ("decr", {"delta": 1}),
    ):
        client.memcache(command[0], b"a", **command[1])
        seen.append(cas_of(client))
    client.memcache("delete", b"a")
    client.memcache("set", b"a", value=b"1")
    seen.append(cas_of(client))
    assert seen == sorted(set(seen))
    client.memcache("touch", b"a", exptime=5)
    client.memcache("gat", b"a", exptime=5)
    assert cas_of(client) == seen[-1]


@pytest.mark.parametrize(
    ("exptime", "lives"),
    [(0, 10 * MONTH_SECONDS), (1, 1), (MONTH_SECONDS, MONTH_SECONDS), (-1, 0)],
)
@pytest.mark.parametrize("by", ["set", "touch", "gat"])
def test_relative_expiry(client, clock, by, exptime, lives):
    client.memcache("set", b"a", value=b"1", exptime=exptime if by == "set" else 0)
    if by != "set":
        client.memcache(by, b"a", exptime=exptime)
    clock.now += max(lives - 1, 0)
    assert value_of(client) == (b"1" if lives else None)
    clock.now += 1
    assert value_of(client) == (b"1" if exptime == 0 else None)


def test_expiry_above_thirty_days_is_a_time_of_day(client, clock):
    assert client.memcache("set", b"past", value=b"1", exptime=MONTH_SECONDS + 1).code == "STORED"
    client.memcache("set", b"a", value=b"1", exptime=int(clock.now) + 100)
    assert value_of(client, b"past") is None
    clock.now += 99
    assert value_of(client) == b"1"
    clock.now += 1
    assert value_of(client) is None


def test_expired_item_is_missing_to_every_command(client, clock):
    for name in ("replace", "append", "cas", "delete", "incr", "touch", "gat"):
        client.memcache("set", b"a", value=b"1", exptime=1)
        clock.now += 1
        assert client.memcache(name, b"a").code in ("NOT_STORED", "NOT_FOUND", "END")
    client.memcache("set", b"a", value=b"1", exptime=1)
    clock.now += 1
    assert client.memcache("add", b"a", value=b"2").code == "STORED"


def test_gat_returns_and_touches_gats_with_cas(client, clock):
    client.memcache("set", b"a", value=b"1", exptime=5)
    assert client.memcache("gat", b"a", b"none", exptime=50).body == b"VALUE a 0 1\r\n1\r\nEND\r\n"
    clock.now += 49
    assert client.memcache("gats", b"a", exptime=50).body == b"VALUE a 0 1 %d\r\n1\r\nEND\r\n" % cas_of(client)
    assert client.memcache("touch", b"none", exptime=5).body == b"NOT_FOUND\r\n"


def test_delete(client):
    client.memcache("set", b"a", value=b"1")
    assert [client.memcache("delete", b"a").body for _ in range(2)] == [b"DELETED\r\n", b"NOT_FOUND\r\n"]


def test_flush_all_forgets_everything_stored_before(client):
    client.memcache("set", b"a", value=b"1")
    assert client.memcache("flush_all").body == b"OK\r\n"
    assert value_of(client) is None
    client.memcache("set", b"b", value=b"2")
    assert value_of(client, b"b") == b"2"
    assert client.memcache("add", b"a", value=b"3").code == "STORED"


def test_flush_all_with_a_delay_takes_what_was_stored_until_then(client, clock):
    client.memcache("set", b"a", value=b"1")
    client.memcache("flush_all", exptime=10)
    client.memcache("set", b"b", value=b"2")
    clock.now += 9
    assert (value_of(client, b"a"), value_of(client, b"b")) == (b"1", b"2")
    clock.now += 1
    client.memcache("set", b"c", value=b"3")
    assert [value_of(client, key) for key in (b"a", b"b", b"c")] == [None, None, b"3"]
    clock.now += 100
    assert value_of(client, b"c") == b"3"


def test_later_flush_replaces_one_that_is_not_due(client, clock):
    client.memcache("flush_all", exptime=10)
    client.memcache("flush_all")
    client.memcache("set", b"a", value=b"1")
    clock.now += 10
    assert value_of(client) == b"1"


def test_append_above_a_mebibyte_is_not_stored(client):
    client.memcache("set", b"a", value=bytes(1 << 20))
    assert client.memcache("append", b"a", value=b"1").code == "NOT_STORED"
    assert len(value_of(client)) == 1 << 20


def test_incr_and_decr_of_what_is_missing_or_no_number(client):
    assert client.memcache("incr", b"a", delta=1).body == b"NOT_FOUND\r\n"
    client.memcache("set", b"a", value=b"x1")
    for name in ("incr", "decr"):
        reply = client.memcache(name, b"a", delta=1)
        assert reply.code == "CLIENT_ERROR"
        assert reply.body == b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"
    assert value_of(client) == b"x1"


def test_stats_tell_what_this_worker_knows(client):
    client.memcache("set", b"a", value=b"1")
    client.memcache("get", b"a", b"none")
    reply = client.memcache("stats")
    lines = reply.body.decode().split("\r\n")
    figures = dict(line.removeprefix("STAT ").split(" ", 1) for line in lines[:-2])
    assert (reply.code, lines[-2:]) == ("STAT", ["END", ""])
    assert (figures["cmd_set"], figures["cmd_get"], figures["get_hits"], figures["get_misses"]) == ("1", "2", "1", "1")
    assert client.memcache("stats", b"reset").body == b"RESET\r\n"
    assert b"STAT cmd_get 0\r\n" in client.memcache("stats").body


def figures_of(client, *report):
    lines = client.memcache("stats", *report).body.decode().split("\r\n")
    return dict(line.removeprefix("STAT ").split(" ", 1) for line in lines[:-2])


def test_stats_count_hits_and_misses_of_every_kind(client):
    client.memcache("set", b"n", value=b"1")
    for name in ("incr", "decr", "touch", "gat", "delete"):
        client.memcache(name, b"n", delta=1)
        client.memcache(name, b"none", delta=1)
    client.memcache("set", b"n", value=b"1")
    for key, cas in ((b"none", 1), (b"n", 0), (b"n", cas_of(client, b"n"))):
        client.memcache("cas", key, value=b"1", cas=cas)
    figures = figures_of(client)
    for name in ("incr", "decr", "delete", "cas"):
        assert (figures[f"{name}_hits"], figures[f"{name}_misses"]) == ("1", "1"), name
    assert (figures["touch_hits"], figures["touch_misses"], figures["cas_badval"]) == ("2", "2", "1")


def test_stats_items_tell_how_many_were_evicted():
    store = MemoryStore(limit_bytes=1000)
    application = make_application(Identity("memcached", "0"), store, {}, lambda name: None, lambda: True)
    assert application(Command("stats", (b"items",))).body == b"END\r\n"
    for key in (b"a", b"b", b"c", b"d"):
        application(Command("set", (key,), bytes(100)))
    report = application(Command("stats", (b"items",))).body
    assert report == b"STAT items:1:number 2\r\nSTAT items:1:evicted 2\r\nSTAT items:1:reclaimed 0\r\nEND\r\n"


@pytest.mark.parametrize(
    ("report", "figure", "value"),
    [
        (b"slabs", "active_slabs", "0"),
        (b"sizes", "sizes_status", "disabled"),
        (b"settings", "item_size_max", "1048576"),
        (b"settings", "evictions", "on"),
    ],
)
def test_stats_reports_that_clients_ask_for(client, report, figure, value):
    assert figures_of(client, report)[figure] == value


def test_stats_conns_is_empty(client):
    assert client.memcache("stats", b"conns").body == b"END\r\n"


def test_the_rest(client):
    version = client.memcache("version")
    assert version.code == "VERSION"
    assert version.body.startswith(b"VERSION 1.6.")
    assert client.memcache("verbosity").body == b"OK\r\n"
    assert client.memcache("no-such-command").body == b"ERROR\r\n"
    assert client.memcache("quit").code == "QUIT"
    echo = client.memcache("echo", value=b"\0any bytes\r\n")
    assert (echo.code, echo.body) == ("ECHO", b"\0any bytes\r\n")


# Numbers


@given(st.integers(0, TWO_TO_64 - 1), st.integers(0, TWO_TO_64 - 1))
def test_incr_goes_round_and_decr_stops(number, delta):
    up, down = int(added(number, delta, down=False)), int(added(number, delta, down=True))
    assert up == ctypes.c_uint64(number + delta).value
    assert down == (number - delta if delta < number else 0)


@given(st.integers(0, TWO_TO_64 - 1), st.lists(st.tuples(st.booleans(), st.integers(0, TWO_TO_64 - 1)), max_size=8))
def test_stored_number_never_gets_shorter(number, steps):
    application = make_application(Identity("memcached", "0"), MemoryStore(), {}, lambda name: None, lambda: True)
    length = len(str(number))
    application(Command("set", (b"n",), b"%d" % number, flags=3))
    for up, delta in steps:
        number = (number + delta) % TWO_TO_64 if up else max(number - delta, 0)
        reply = application(Command("incr" if up else "decr", (b"n",), delta=delta))
        assert (reply.code, reply.body) == ("NUMBER", b"%d\r\n" % number)
        length = max(length, len(str(number)))
        stored = application(Command("get", (b"n",))).body
        assert stored == b"VALUE n 3 %d\r\n%b\r\nEND\r\n" % (length, str(number).ljust(length).encode())
