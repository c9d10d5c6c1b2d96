"""What only the sqlite store has: locks between processes, a size limit, a WAL, and durability."""

import os
import shutil
import signal
import sqlite3
import threading
import time

import pytest

from services.apps import sqlite_store
from services.apps.sqlite_store import (
    BUSY_BOUND_SECONDS,
    CLAIM_OVERHEAD_BYTES,
    FILE_NAME,
    RECORD_OVERHEAD_BYTES,
    SWEEP_ROWS,
    WAL_TARGET_BYTES,
    SqliteStore,
)
from services.apps.store import Record, StoreBusyError, StoreFullError


@pytest.fixture
def store(tmp_path, clock):
    return SqliteStore(tmp_path, clock)


@pytest.fixture
def short_wait(monkeypatch):
    """Refusals come after 50 ms, so that tests need not wait for seconds."""
    monkeypatch.setattr(sqlite_store, "BUSY_BOUND_SECONDS", 0.05)


@pytest.fixture
def other_writer(store, short_wait, tmp_path):
    """Somebody else's connection, in the middle of a write."""
    connection = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    yield connection
    connection.close()


def add(store, name=b"a"):
    with store.transaction() as transaction:
        transaction.set_counter(name, transaction.counter(name) + 1)


def rows_in(tmp_path, table):
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    rows = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    connection.close()
    return rows


def test_locked_database_is_a_503_and_no_effect(client, store, other_writer):
    response = client.http("POST", b"/counters/a", idempotency_key=b"k")
    assert (response.code, response.headers) == ("503", b"Retry-After: 1\r\n")
    assert client.http("PUT", b"/kv/a", b"1").code == "503"
    assert client.memcache("set", b"a", value=b"1").code == "SERVER_ERROR"
    assert client.outcomes == {"unavailable": 3}
    other_writer.execute("ROLLBACK")
    assert client.http("POST", b"/counters/a", idempotency_key=b"k").body == b"1\n"


def test_after_a_refusal_waits_are_short_until_one_gets_through(store, other_writer, monkeypatch):
    waits = []
    monkeypatch.setattr(sqlite_store, "SHORT_BOUND_SECONDS", 0.2)
    monkeypatch.setattr(sqlite_store, "BUSY_BOUND_SECONDS", 0.6)

    def refused():
        began = time.monotonic()
        with pytest.raises(StoreBusyError):
            add(store)
        waits.append(time.monotonic() - began >= 0.6)

    refused()
    refused()
    other_writer.execute("ROLLBACK")
    add(store)
    other_writer.execute("BEGIN IMMEDIATE")
    refused()
    assert waits == [True, False, True]


def test_reading_does_not_wait_for_a_writer(client, other_writer):
    other_writer.execute("INSERT INTO counters VALUES (CAST('a' AS BLOB), 7)")
    assert client.http("GET", b"/counters/a").body == b"0\n"
    assert client.http("GET", b"/kv/a").code == "404"
    other_writer.execute("COMMIT")
    assert client.http("GET", b"/counters/a").body == b"7\n"


def test_waiting_for_a_lock_is_bounded_by_the_documented_time(store):
    with store.transaction() as session:
        assert session.patience_seconds == BUSY_BOUND_SECONDS
        assert session.execute("PRAGMA busy_timeout").fetchall() == [(0,)]
        assert session.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
        assert session.execute("PRAGMA synchronous").fetchall() == [(1,)]


def test_full_database_refuses_and_keeps_what_it_has(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(sqlite_store, "MAX_PAGES", 100)
    store = SqliteStore(tmp_path, clock)

    def fill():
        for number in range(100):
            with store.transaction() as transaction:
                transaction.set_counter(b"a", number + 1)
                transaction.put_item(b"%d" % number, bytes(10_000))

    with pytest.raises(StoreFullError):
        fill()
    stored = store.counter(b"a")
    assert 10 < stored < 100
    assert store.item(b"%d" % (stored - 1))
    assert store.item(b"%d" % stored) is None
    add(store)


def test_full_database_is_a_503_for_items_and_keys(client, monkeypatch):
    monkeypatch.setattr(sqlite_store, "MAX_PAGES", 60)
    codes = {client.http("PUT", b"/kv/%d" % number, bytes(5000)).code for number in range(100)}
    keyed = {client.http("POST", b"/counters/a", idempotency_key=b"k%d" % number).code for number in range(100)}
    assert (codes, keyed) == ({"201", "503"}, {"200", "503"})


def test_file_of_an_earlier_version_keeps_its_items_and_counters(tmp_path, clock):
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    connection.executescript("""
        CREATE TABLE counters (name BLOB PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
        INSERT INTO counters VALUES (CAST('a' AS BLOB), 7);
        CREATE TABLE claims (scope BLOB, name BLOB, UNIQUE (scope, name));
        INSERT INTO claims VALUES ('a', 'b');
        CREATE TABLE records (
            key BLOB PRIMARY KEY, fingerprint BLOB, token BLOB, expires REAL, code TEXT, body BLOB
        ) WITHOUT ROWID;
        CREATE INDEX records_by_expiry ON records (expires);
    """)
    connection.close()
    for _ in range(2):
        store = SqliteStore(tmp_path, clock)
        add(store)
        with store.transaction() as transaction:
            transaction.claim(b"a", b"b")
            transaction.put_record(b"k", Record(b"", b"", 1e12, "200"))
        store.close()
    assert (store.counter(b"a"), rows_in(tmp_path, "claims"), rows_in(tmp_path, "records")) == (9, 1, 1)
    assert rows_in(tmp_path, "sizes WHERE counters = 1") == 1


def test_running_totals_are_what_counting_gives(tmp_path, clock):
    store = SqliteStore(tmp_path, clock, 20 * RECORD_OVERHEAD_BYTES, 20 * CLAIM_OVERHEAD_BYTES)
    for number in range(100):
        clock.now += 11
        with store.transaction() as transaction:
            transaction.put_record(b"%d" % number, Record(b"", b"", clock.now + 100, "200", bytes(number)))
            transaction.put_record(b"%d" % number, Record(b"", b"", clock.now + 100, "200", bytes(number // 2)))
            assert transaction.claim(b"s", b"%d" % number, 150)
    records = f"sum({RECORD_OVERHEAD_BYTES} + 2 * length(key) + length(body)) FROM records"
    claims = f"sum({CLAIM_OVERHEAD_BYTES} + 2 * (length(scope) + length(name))) FROM claims"
    with store.transaction() as session:
        totals = session.execute("SELECT records, claims FROM sizes").fetchall()[0]
        counted = tuple(session.execute(f"SELECT {what}").fetchall()[0][0] for what in (records, claims))
    assert totals == counted
    assert 0 < totals[0] <= 20 * RECORD_OVERHEAD_BYTES
    assert 0 < totals[1] <= 20 * CLAIM_OVERHEAD_BYTES


def test_store_survives_the_process_that_wrote_it(tmp_path, clock):
    pid = os.fork()
    if pid == 0:
        first = SqliteStore(tmp_path, clock)
        add(first)
        with first.transaction() as transaction:
            transaction.put_item(b"k", b"v", 5, clock.now + 10)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    second = SqliteStore(tmp_path, clock)
    assert second.counter(b"a") == 1
    assert second.item(b"k")[:3] == (b"v", 5, clock.now + 10)


def test_kill_in_the_middle_of_a_transaction_leaves_no_half_effect(store, short_wait):
    add(store)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        with store.transaction() as transaction:
            transaction.set_counter(b"a", 99)
            transaction.claim(b"s", b"n")
            transaction.put_record(b"k", Record(b"", b"", 1e12, "200", b""))
            os.write(writer, b"written")
            signal.pause()
    assert os.read(reader, 100) == b"written"
    with pytest.raises(StoreBusyError):
        add(store)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(reader)
    os.close(writer)
    assert (store.counter(b"a"), store.record(b"k")) == (1, None)
    with store.transaction() as transaction:
        assert transaction.claim(b"s", b"n")


def test_fork_closes_every_connection_and_both_sides_open_their_own(store, tmp_path):
    add(store)
    with store.transaction() as before:
        pass
    pid = os.fork()
    if pid == 0:
        status = 1
        with store.transaction() as session:
            status = int(session is before)
            session.set_counter(b"a", session.counter(b"a") + 1)
        os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    add(store)
    assert store.counter(b"a") == 3
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        before.connection.execute("SELECT 1")


def test_ended_thread_closes_its_connection(store):
    sessions = []

    def use():
        with store.transaction() as session:
            sessions.append(session.connection)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        sessions[0].execute("SELECT 1")


def test_checkpoint_empties_a_large_wal_and_requests_do_not(store, tmp_path):
    wal = tmp_path / f"{FILE_NAME}-wal"
    for number in range(8):
        with store.transaction() as transaction:
            transaction.put_item(b"%d" % number, bytes(1 << 20))
    assert wal.stat().st_size > 2 * WAL_TARGET_BYTES - (1 << 20)
    store.checkpoint()
    assert wal.stat().st_size <= WAL_TARGET_BYTES
    assert all(store.item(b"%d" % number) for number in range(8))


def test_wal_stays_bounded_when_nobody_calls_for_a_checkpoint(store, tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_store, "BACKSTOP_PAGES", 100)
    small = SqliteStore(tmp_path)
    sizes = set()
    for number in range(100):
        with small.transaction() as transaction:
            transaction.put_item(b"k", bytes([number]) * 100_000)
        sizes.add((tmp_path / f"{FILE_NAME}-wal").stat().st_size)
    assert max(sizes) < 300 * 4096


def test_checkpoint_gives_way_to_a_writer(store, other_writer):
    store.checkpoint()
    with pytest.raises(StoreBusyError):
        add(store)
    other_writer.execute("ROLLBACK")
    with store.transaction() as session:
        assert session.patience_seconds == sqlite_store.BUSY_BOUND_SECONDS


def test_checkpoint_after_the_state_folder_is_gone_does_nothing(tmp_path, clock):
    folder = tmp_path / "state"
    folder.mkdir()
    store = SqliteStore(folder, clock)
    store.close()
    shutil.rmtree(folder)
    store.checkpoint()
    assert not folder.exists()


def test_checkpoint_of_a_database_that_cannot_be_read_is_an_error(tmp_path, clock):
    store = SqliteStore(tmp_path, clock)
    store.close()
    (tmp_path / FILE_NAME).write_bytes(b"no database" * 1000)
    with pytest.raises(sqlite3.DatabaseError):
        store.checkpoint()


def test_checkpoint_deletes_what_has_expired_and_what_was_flushed(store, clock, tmp_path):
    with store.transaction() as transaction:
        for number in range(SWEEP_ROWS + 5):
            transaction.put_item(b"e%d" % number, b"", 0, clock.now + 10)
            transaction.put_record(b"r%d" % number, Record(b"", b"", clock.now + 10, "200"))
        transaction.put_item(b"kept", b"")
        transaction.put_record(b"kept", Record(b"", b"", clock.now + 11, "200"))
    clock.now += 10
    assert store.item(b"e0") is None
    store.checkpoint()
    assert (rows_in(tmp_path, "items"), rows_in(tmp_path, "records")) == (1, 1)
    with store.transaction() as transaction:
        transaction.flush_items(clock.now)
    store.checkpoint()
    assert rows_in(tmp_path, "items") == 0


def test_folder_that_cannot_have_a_wal_is_refused(tmp_path, clock, monkeypatch):
    real = sqlite3.connect
    monkeypatch.setattr(sqlite_store.sqlite3, "connect", lambda path, **settings: real(":memory:", **settings))
    with pytest.raises(OSError, match="choose a local file system"):
        SqliteStore(tmp_path, clock)


def test_checkpoint_of_a_store_that_is_gone_makes_no_new_one(tmp_path):
    store = SqliteStore(tmp_path / "a folder?#%")
    (tmp_path / "a folder?#%" / "store.sqlite3").unlink()
    store.checkpoint()
    assert not (tmp_path / "a folder?#%" / "store.sqlite3").exists()
