"""The memory store's bounds: bytes of items, number of keys; and that a failed transaction leaves no trace."""

import threading
from itertools import pairwise

import pytest

from services.apps.memory_store import ITEM_OVERHEAD_BYTES, MemoryStore
from services.apps.store import NEVER, Record, StoreFullError


def put(store, key, value=b"", expires=NEVER):
    with store.transaction() as transaction:
        transaction.put_item(key, value, 0, expires)


def remember(store, key, expires, code="200"):
    with store.transaction() as transaction:
        transaction.put_record(key, Record(b"", b"", expires, code))


def test_least_recently_used_item_is_evicted(clock):
    store = MemoryStore(clock, limit_bytes=3 * (ITEM_OVERHEAD_BYTES + 11))
    for key in (b"a", b"b", b"c"):
        put(store, key, b"0123456789")
    store.item(b"a")
    put(store, b"d", b"0123456789")
    assert store.item(b"b") is None
    assert all(store.item(key) for key in (b"a", b"c", b"d"))
    assert store.statistics()["evictions"] == 1


def test_bytes_never_pass_the_limit_and_come_back_to_zero(clock):
    store = MemoryStore(clock, limit_bytes=10_000)
    for number in range(200):
        put(store, b"%d" % (number % 70), bytes(number * 7 % 500))
        assert store.statistics()["bytes"] <= 10_000
    for number in range(70):
        with store.transaction() as transaction:
            transaction.delete_item(b"%d" % number)
    assert (store.statistics()["bytes"], store.statistics()["curr_items"]) == (0, 0)


def test_expired_item_is_dropped_when_asked_for_and_counted_out(clock):
    store = MemoryStore(clock)
    put(store, b"a", b"1", clock.now + 10)
    assert store.item(b"a").value == b"1"
    clock.now += 10
    assert store.item(b"a") is None
    statistics = store.statistics()
    assert (statistics["curr_items"], statistics["bytes"], statistics["reclaimed"]) == (0, 0, 1)


def test_full_of_valid_keys_refuses_rather_than_forgets(clock):
    store = MemoryStore(clock, max_records=2)
    remember(store, b"a", clock.now + 10)
    remember(store, b"b", clock.now + 20)
    with pytest.raises(StoreFullError):
        remember(store, b"c", clock.now + 30)
    assert store.record(b"a")
    clock.now += 10
    remember(store, b"c", clock.now + 30)
    assert store.record(b"a") is None
    assert store.record(b"b")


def test_running_key_in_front_does_not_keep_expired_ones(clock):
    store = MemoryStore(clock, max_records=2)
    remember(store, b"running", clock.now + 100, code="")
    remember(store, b"done", clock.now + 10)
    clock.now += 50
    remember(store, b"new", clock.now + 10)
    assert store.record(b"running")


def test_failed_transaction_leaves_no_trace(store):
    with store.transaction() as transaction:
        transaction.set_counter(b"kept", 1)
        transaction.put_record(b"kept", Record(b"f", b"t", 1e12, "200", b"body"))

    def fail():
        with store.transaction() as transaction:
            transaction.set_counter(b"kept", 2)
            transaction.set_counter(b"kept", 3)
            transaction.set_counter(b"new", 1)
            assert transaction.claim(b"s", b"n")
            transaction.put_record(b"kept", Record(b"", b"", 1e12))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (store.counter(b"kept"), store.counter(b"new")) == (1, 0)
    assert store.record(b"kept") == Record(b"f", b"t", 1e12, "200", b"body")
    with store.transaction() as transaction:
        assert transaction.claim(b"s", b"n")
        assert not transaction.claim(b"s", b"n")


def test_threads_lose_no_increment():
    store = MemoryStore()
    start = threading.Barrier(8)
    seen = [[] for _ in range(8)]

    def add(mine):
        start.wait()
        for _ in range(500):
            with store.transaction() as transaction:
                mine.append(transaction.counter(b"a") + 1)
                transaction.set_counter(b"a", mine[-1])

    threads = [threading.Thread(target=add, args=(mine,)) for mine in seen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.counter(b"a") == 4000
    assert sorted(value for mine in seen for value in mine) == list(range(1, 4001))
    assert all(earlier < later for mine in seen for earlier, later in pairwise(mine))
