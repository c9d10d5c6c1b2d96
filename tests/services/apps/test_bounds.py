"""The bounds on keys, increments and counters, alike on both stores."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.apps import memory_store, sqlite_store
from services.apps.memory_store import MemoryStore
from services.apps.sqlite_store import SqliteStore
from services.apps.store import Record, StoreCrowdedError

EPOCH_SECONDS = 1_700_000_000.0
TTL_SECONDS = 60.0
LEASE_SECONDS = 5.0
ROWS = 4
MEMORY_LIMITS = (ROWS * (memory_store.RECORD_OVERHEAD_BYTES + 1), ROWS * (memory_store.CLAIM_OVERHEAD_BYTES + 3))
SQLITE_LIMITS = (ROWS * (sqlite_store.RECORD_OVERHEAD_BYTES + 2), ROWS * (sqlite_store.CLAIM_OVERHEAD_BYTES + 4))
"""Room for ROWS records whose key is one byte, and as many increments with a scope and a name of one byte."""

names = st.sampled_from([b"%d" % number for number in range(8)])
operations = st.lists(
    st.one_of(
        st.tuples(st.just("tick"), st.sampled_from([0.25, 4.0, 10.0, 70.0])),
        st.tuples(st.sampled_from(["run", "finish", "look", "claim", "add", "fail"]), names),
    ),
    max_size=60,
)


@pytest.fixture(params=["memory", "sqlite"])
def store(request, clock, tmp_path):
    """One with little room: some hundreds of keys or increments."""
    if request.param == "memory":
        return MemoryStore(clock, keys_limit_bytes=1 << 17, increments_limit_bytes=1 << 16)
    return SqliteStore(tmp_path, clock, 1 << 15, 1 << 15)


class Subject:
    """A store, and what it says to each operation."""

    def __init__(self, make):
        self.now = EPOCH_SECONDS
        self.store = make(lambda: self.now)

    def perform(self, operation, value):
        self.now += 0.25  # no two things are stored at one time, so which is older is never in doubt
        if operation == "tick":
            self.now += value
            return None
        try:
            with self.store.transaction() as transaction:
                return getattr(self, operation)(transaction, value), transaction.take_evicted()
        except StoreCrowdedError as error:
            return error.retry_after_seconds
        except ZeroDivisionError:
            return self.store.counter(value)

    def run(self, transaction, key):
        known = self.look(transaction, key)
        if known is None:
            transaction.put_record(key, Record(b"", b"", self.now + LEASE_SECONDS))
        return known

    def finish(self, transaction, key):
        transaction.put_record(key, Record(b"", b"", self.now + TTL_SECONDS, "200"))

    def look(self, transaction, key):
        record = transaction.record(key)
        return record if record and record.expires > self.now else None

    def claim(self, transaction, name):
        return transaction.claim(b"s", name, TTL_SECONDS)

    def add(self, transaction, name):
        transaction.set_counter(name, transaction.counter(name) + 1)
        return transaction.counter(name)

    def fail(self, transaction, name):
        transaction.set_counter(name, 1000)
        raise ZeroDivisionError


@settings(max_examples=40, deadline=None)
@given(operations)
def test_both_stores_respond_alike_to_the_same_operations(sequence):
    with tempfile.TemporaryDirectory() as folder:
        memory = Subject(lambda clock: MemoryStore(clock, 1 << 20, *MEMORY_LIMITS))
        sqlite = Subject(lambda clock: SqliteStore(Path(folder), clock, *SQLITE_LIMITS))
        for operation, value in sequence:
            assert sqlite.perform(operation, value) == memory.perform(operation, value), (operation, value)
        sqlite.store.close()


def test_keys_and_increments_beyond_any_bound_are_served_and_the_oldest_are_evicted(client, clock):
    for number in range(1500):
        clock.now += 0.1
        assert client.http("POST", b"/counters/c", idempotency_key=b"k%d" % number).code == "200"
        assert client.http("PUT", b"/counters/c/increments/i%d" % number).code == "200"
    assert client.http("GET", b"/counters/c").body == b"3000\n"
    assert client.outcomes["applied"] == 3000
    assert client.outcomes["evicted"] > 1500
    assert client.http("POST", b"/counters/c", idempotency_key=b"k1499").body == b"2999\n"
    assert client.http("PUT", b"/counters/c/increments/i1499").body == b"3000\n"


def test_too_many_keys_within_the_smallest_age_are_a_503_with_the_time_to_wait(client, clock):
    responses = [client.http("POST", b"/counters/c", idempotency_key=b"k%d" % number) for number in range(1500)]
    assert {response.code for response in responses} == {"200", "503"}
    assert responses[-1].headers == b"Retry-After: 10\r\n"
    clock.now += 10
    assert client.http("POST", b"/counters/c", idempotency_key=b"k1499").code == "200"


def test_leases_that_have_ended_make_room(store, clock):
    def reserve(key):
        with store.transaction() as transaction:
            transaction.put_record(key, Record(b"", b"", clock.now + LEASE_SECONDS))

    def reserve_all():
        for number in range(1500):
            reserve(b"%d" % number)

    with pytest.raises(StoreCrowdedError):
        reserve_all()
    clock.now += LEASE_SECONDS
    reserve(b"new")
    assert store.record(b"new")


def test_one_counter_too_many_is_a_507_and_the_others_still_count(client, monkeypatch):
    for module in (memory_store, sqlite_store):
        monkeypatch.setattr(module, "MAX_COUNTERS", 3)
    assert [client.http("POST", b"/counters/%d" % number).code for number in range(5)] == ["200"] * 3 + ["507"] * 2
    assert client.http("POST", b"/counters/0").body == b"2\n"
