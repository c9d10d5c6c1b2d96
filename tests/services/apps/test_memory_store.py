"""The memory store's bounds: bytes of items, number of keys; and that a failed transaction leaves no trace."""

import threading
from itertools import pairwise

import pytest

from services.apps.memory_store import CLAIM_OVERHEAD_BYTES, ITEM_OVERHEAD_BYTES, RECORD_OVERHEAD_BYTES, MemoryStore
from services.apps.store import NEVER, Record, StoreCrowdedError


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


def test_oldest_finished_key_makes_room_and_a_running_or_young_one_does_not(clock):
    store = MemoryStore(clock, keys_limit_bytes=2 * RECORD_OVERHEAD_BYTES + 20)
    remember(store, b"running", clock.now + 100, code="")
    remember(store, b"a", clock.now + 100)
    clock.now += 9
    with pytest.raises(StoreCrowdedError) as refused:
        remember(store, b"b", clock.now + 100)
    assert refused.value.retry_after_seconds == 1
    clock.now += 1
    remember(store, b"b", clock.now + 100)
    assert (store.record(b"a"), bool(store.record(b"running"))) == (None, True)
    with store.transaction() as transaction:
        assert (transaction.take_evicted(), transaction.take_evicted()) == (1, 0)


def test_increments_expire_and_make_room(clock):
    store = MemoryStore(clock, increments_limit_bytes=2 * CLAIM_OVERHEAD_BYTES + 20)

    def claim(name):
        with store.transaction() as transaction:
            return transaction.claim(b"s", name, 100)

    assert [claim(name) for name in (b"a", b"a", b"b")] == [True, False, True]
    with pytest.raises(StoreCrowdedError):
        claim(b"c")
    clock.now += 10
    assert [claim(name) for name in (b"c", b"b", b"a")] == [True, False, True]
    clock.now += 100
    assert claim(b"c")


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
