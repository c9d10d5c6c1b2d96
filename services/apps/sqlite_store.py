"""The store in one SQLite file: shared by all workers, threads and processes alike, and durable.

WAL: readers wait for nobody, writers wait for one another. A write begins with BEGIN IMMEDIATE, so it
takes its place at the start, and never finds half-way that somebody else was quicker. A transaction
that a kill -9 interrupts was never there. `synchronous=NORMAL`: a commit goes to the page cache and
survives the death of any process; the disk is waited for at a checkpoint only, so a power cut may
take the last commits away, but never half of one.

What may block an event loop, and for how long: a lock that somebody else holds, for at most
BUSY_BOUND_SECONDS; then the access is refused (`StoreBusyError`), and the thread's next ones wait for
SHORT_BOUND_SECONDS only, until one gets through. A loop that waits serves none of its other connections.
Measured on two cores that had other work too, with 50 clients that wrote to four processes, 2,000 keys a
second: of 100,000 requests none was refused, and the longest took 0.4 s. Meanwhile a GET of / on eight other
connections took 28 ms (median), 118 ms (99 of 100), and 0.42 s at the most.

Checkpoints wait for the disk (fsync), so they are not made by requests: `checkpoint()` is called every
CHECKPOINT_SECONDS by a thread or process that serves nobody. Should nobody call it, a request that finds
BACKSTOP_PAGES in the WAL makes the checkpoint after all, which took up to 0.3 s.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from services.apps.sqlite_schema import (
    CLAIM_OVERHEAD_BYTES,
    CLAIMS,
    DROP_EXPIRED_CLAIMS,
    DROP_EXPIRED_RECORDS,
    FLUSH_IF_DUE,
    ITEM,
    OLD_SCHEMA,
    PUT_ITEM,
    PUT_RECORD,
    RECORD_OVERHEAD_BYTES,
    RECORDS,
    SCHEMA,
    SCHEMA_VERSION,
    SWEEPS,
    Bounded,
)
from services.apps.store import (
    INCREMENTS_LIMIT_BYTES,
    KEYS_LIMIT_BYTES,
    MAX_COUNTERS,
    MIN_AGE_SECONDS,
    NEVER,
    CountersFullError,
    Item,
    Record,
    StoreBusyError,
    StoreCrowdedError,
    StoreFullError,
    StoreUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType


FILE_NAME = "store.sqlite3"
BUSY_BOUND_SECONDS = 5.0
"""The longest that an access waits for a lock: long enough that no writer who is only unlucky is refused."""
SHORT_BOUND_SECONDS = 0.05
"""The same after a refusal: whoever holds the lock does not write, but stands still."""
CHECKPOINT_SECONDS = 0.25
"""Between two calls of `checkpoint()`."""
LOCK_POLL_SECONDS = 0.0002
"""Between two requests for a lock. SQLite's own wait asks six times in 50 ms, and starves among busy writers.

Against 1 ms, the shortest that SQLite's timeout knows: 9 % more writes, and the longest wait was half as long.
"""
CHECKPOINT_WAIT_SECONDS = 1.0
"""The longest that a checkpoint waits for one, for nobody waits for the checkpoint."""
PAGE_BYTES = 4096
MAX_PAGES = 262_144
"""1 GiB: what the file may hold. A durable store refuses what is too much; it forgets nothing to make room."""
WAL_TARGET_BYTES = 4 * 1024 * 1024
"""Above this, `checkpoint()` also empties the WAL, for which writers stand still a moment."""
BACKSTOP_PAGES = 16_384
"""64 MiB of WAL: where a request makes the checkpoint, because nobody else has."""
SWEEP_ROWS = 64
"""Expired rows that one sweep deletes from each table: a bounded time under the write lock."""
SWEEP_PAUSE_SECONDS = 0.005
"""Between two sweeps, so that writers, who poll, have the lock in between."""
MOST_EVICTED = 64
"""Rows that one access evicts at most: a file that is over a bound made smaller shrinks bit by bit."""
_BUSY_CODES = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_DISK_CODES = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
"""Of a disk that is full or has become read-only, depending on which of the database's files is written."""


class _Limits(NamedTuple):
    """Bytes of records, and of claims, as `sizes` charges them."""

    keys_bytes: int
    increments_bytes: int


class _Session:
    """One thread's connection, and the transaction on it. Used by that thread only."""

    def __init__(self, path: Path, clock: Callable[[], float], limits: _Limits) -> None:
        self._clock = clock
        self._limits = limits
        self._evicted = 0
        self._refused = False
        self.patience_seconds = BUSY_BOUND_SECONDS
        # The threads keep apart by themselves; but a fork closes every connection from the thread that forks.
        # "rw" makes no file: a server that ends may have taken its temporary folder along by now.
        self.connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw", timeout=0, isolation_level=None, check_same_thread=False, uri=True
        )
        weakref.finalize(self, self.connection.close)
        for setting in (
            "synchronous = NORMAL",
            f"wal_autocheckpoint = {BACKSTOP_PAGES}",
            f"journal_size_limit = {WAL_TARGET_BYTES}",
            f"max_page_count = {MAX_PAGES}",
        ):
            self.execute(f"PRAGMA {setting}")  # the first to open a file locks it to look at its WAL

    def __enter__(self) -> Self:
        self._evicted = 0  # what a transaction that failed had evicted is there again
        self.execute("BEGIN IMMEDIATE")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.execute("COMMIT")
        finally:
            # Some failures (a full disk) have ended the transaction already; a failed COMMIT has not.
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")

    def execute(self, statement: str, *values: object) -> sqlite3.Cursor:
        """Run a statement. Raises `StoreBusyError` after the bound, `StoreFullError` at the size limit."""
        deadline = 0.0
        while True:
            try:
                cursor = self.connection.execute(statement, values)
            except sqlite3.OperationalError as error:
                # The statement has changed nothing.
                now = time.monotonic()
                deadline = deadline or now + (SHORT_BOUND_SECONDS if self._refused else self.patience_seconds)
                if not _is_busy(error) or now >= deadline:
                    self._refused = self._refused or _is_busy(error)
                    raise _translated(error) from None
                time.sleep(LOCK_POLL_SECONDS)
            else:
                if self._refused and self.connection.in_transaction:
                    self._refused = False
                return cursor

    def _row(self, statement: str, *values: object) -> tuple[Any, ...] | None:
        # fetchall, because a cursor with a row left to read keeps its snapshot, which stops checkpoints.
        rows: list[tuple[Any, ...]] = self.execute(statement, *values).fetchall()
        return rows[0] if rows else None

    def item(self, key: bytes) -> Item | None:
        now = self._clock()
        row = self._row(ITEM, key, now, now)
        return Item._make(row) if row else None

    def put_item(self, key: bytes, value: bytes, flags: int = 0, expires: float = NEVER) -> None:
        self.execute(FLUSH_IF_DUE, self._clock())
        self.execute(PUT_ITEM, key, value, flags, expires)

    def touch_item(self, key: bytes, expires: float) -> None:
        self.execute("UPDATE items SET expires = ? WHERE key = ?", expires, key)

    def mark_item(self, key: bytes, flags: int) -> None:
        self.execute("UPDATE items SET flags = ? WHERE key = ?", flags, key)

    def delete_item(self, key: bytes) -> None:
        self.execute("DELETE FROM items WHERE key = ?", key)

    def flush_items(self, due: float) -> None:
        now = self._clock()
        self.execute(FLUSH_IF_DUE, now)
        self.execute("UPDATE flush SET due = ?", due)
        self.execute(FLUSH_IF_DUE, now)

    def counter(self, name: bytes) -> int:
        row = self._row("SELECT value FROM counters WHERE name = ?", name)
        return int(row[0]) if row else 0

    def set_counter(self, name: bytes, value: int) -> None:
        if self.execute("UPDATE counters SET value = ? WHERE name = ?", value, name).rowcount:
            return
        if self._number("SELECT counters FROM sizes") >= MAX_COUNTERS:
            raise CountersFullError
        self.execute("INSERT INTO counters VALUES (?, ?)", name, value)

    def claim(self, scope: bytes, name: bytes, ttl_seconds: float = NEVER) -> bool:
        now = self._clock()
        row = self._row("SELECT number, stored FROM claims WHERE scope = ? AND name = ?", scope, name)
        if row and row[1] + ttl_seconds > now:
            return False
        if row:
            self.execute(CLAIMS.drop, row[0])
        self.execute(DROP_EXPIRED_CLAIMS, now - ttl_seconds, SWEEP_ROWS)
        size = CLAIM_OVERHEAD_BYTES + 2 * (len(scope) + len(name))
        self._evict(CLAIMS, self._limits.increments_bytes - size, now)
        self.execute("INSERT INTO claims (scope, name, stored) VALUES (?, ?, ?)", scope, name, now)
        return True

    def record(self, key: bytes) -> Record | None:
        row = self._row("SELECT fingerprint, token, expires, code, body FROM records WHERE key = ?", key)
        return Record._make(row) if row else None

    def put_record(self, key: bytes, record: Record) -> None:
        now = self._clock()
        limit = self._limits.keys_bytes - RECORD_OVERHEAD_BYTES - 2 * len(key) - len(record.body)
        full = self._number(RECORDS.size) > limit
        if full and self._row("SELECT 1 FROM records WHERE key = ?", key) is None:
            self.execute(DROP_EXPIRED_RECORDS, now, SWEEP_ROWS)
            self._evict(RECORDS, limit, now)
        self.execute(PUT_RECORD, key, *record, now)

    def take_evicted(self) -> int:
        evicted, self._evicted = self._evicted, 0
        return evicted

    def _number(self, statement: str) -> int:
        return int(self.execute(statement).fetchall()[0][0])

    def _evict(self, table: Bounded, limit: int, now: float) -> None:
        """Drop the oldest rows until the table's size is `limit` or less."""
        for _ in range(MOST_EVICTED):
            if self._number(table.size) <= limit:
                return
            oldest = self._row(table.oldest)
            if oldest is None or oldest[1] + MIN_AGE_SECONDS > now:
                raise StoreCrowdedError(oldest[1] + MIN_AGE_SECONDS - now if oldest else 1)
            self.execute(table.drop, oldest[0])
            self._evicted += 1

    def sweep(self) -> int:
        """Delete some of what has expired; return how many rows."""
        values = {"now": self._clock(), "rows": SWEEP_ROWS}
        return sum(self.connection.execute(statement, values).rowcount for statement in SWEEPS)


class SqliteStore:
    """See `Store`. Made once, before workers are forked or started. The limits bound the records and the claims.

    Each thread of each process opens a connection when it first needs one.
    """

    def __init__(
        self,
        folder: Path,
        clock: Callable[[], float] = time.time,
        keys_limit_bytes: int = KEYS_LIMIT_BYTES,
        increments_limit_bytes: int = INCREMENTS_LIMIT_BYTES,
    ) -> None:
        self.clock = clock
        self._limits = _Limits(keys_limit_bytes, increments_limit_bytes)
        self._path = folder / FILE_NAME
        self._local = threading.local()
        self._sessions: weakref.WeakSet[_Session] = weakref.WeakSet()
        folder.mkdir(parents=True, exist_ok=True)
        self._create()
        _stores.add(self)

    def _create(self) -> None:
        connection = sqlite3.connect(self._path, timeout=10, isolation_level=None)
        try:
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise OSError(f"{self._path}: SQLite cannot use WAL here (got {mode!r}); choose a local file system")
            if connection.execute("PRAGMA user_version").fetchone()[0] != SCHEMA_VERSION:
                connection.executescript(OLD_SCHEMA)
            connection.executescript(f"{SCHEMA} PRAGMA user_version = {SCHEMA_VERSION};")
        finally:
            connection.close()

    @property
    def _session(self) -> _Session:
        session: _Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = self._open()
        return session

    def _open(self) -> _Session:
        try:
            session = _Session(self._path, self.clock, self._limits)
        except sqlite3.OperationalError as error:
            if not self._path.is_file():
                raise  # the disk is not to blame
            raise _translated(error) from error
        self._sessions.add(session)
        return session

    def close(self) -> None:
        """Close this process's connections. They open again when needed."""
        self._local = threading.local()
        for session in list(self._sessions):
            session.connection.close()

    def transaction(self) -> _Session:
        """See `Store.transaction`. Raises `StoreBusyError` when the lock cannot be had within the bound."""
        return self._session

    def item(self, key: bytes) -> Item | None:
        """See `Store.item`."""
        return self._session.item(key)

    def counter(self, name: bytes) -> int:
        """See `Store.counter`."""
        return self._session.counter(name)

    def record(self, key: bytes) -> Record | None:
        """See `Store.record`."""
        return self._session.record(key)

    def statistics(self) -> dict[str, int]:
        """Sizes only: counting the rows would read the whole table, which takes longer than a loop may wait."""
        pages = self._session.execute("PRAGMA page_count").fetchall()[0][0]
        return {"bytes": pages * PAGE_BYTES, "limit_maxbytes": MAX_PAGES * PAGE_BYTES}

    def checkpoint(self) -> None:
        """Delete what has expired and move the WAL into the file. Waits for the disk.

        Called by a thread or process that serves no requests. Never raises for a busy database or a full
        disk: the next call comes soon.
        """
        try:
            self._sweep_and_checkpoint(self._session)
        except StoreUnavailableError:
            return
        except sqlite3.OperationalError as error:
            foreseen = self._path.is_file() and isinstance(_translated(error), StoreUnavailableError)
            # A main that ends takes its temporary state folder along, and whoever calls this may run a little longer.
            if self._path.exists() and not foreseen:
                raise

    def _sweep_and_checkpoint(self, session: _Session) -> None:
        session.patience_seconds = CHECKPOINT_WAIT_SECONDS
        try:
            while self._sweep():
                time.sleep(SWEEP_PAUSE_SECONDS)
            self._checkpoint()
        finally:
            session.patience_seconds = BUSY_BOUND_SECONDS

    def _sweep(self) -> int:
        with self._session as session:
            return session.sweep()

    def _checkpoint(self) -> None:
        # PASSIVE works while writers go on. Under steady writing it never finds a moment when all
        # is done and the WAL can start anew, so above a size TRUNCATE makes that moment.
        _, pages, _ = self._session.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()[0]
        deadline = time.monotonic() + CHECKPOINT_WAIT_SECONDS
        busy = pages * PAGE_BYTES > WAL_TARGET_BYTES
        while busy and time.monotonic() < deadline:
            busy, _, _ = self._session.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0]
            time.sleep(LOCK_POLL_SECONDS)


_stores: weakref.WeakSet[SqliteStore] = weakref.WeakSet()


def _close_before_fork() -> None:
    # SQLite remembers, per process, which locks it holds. A child that inherits that memory believes that
    # it holds locks which the kernel never gave it. So nothing is open while we fork.
    for store in list(_stores):
        store.close()


os.register_at_fork(before=_close_before_fork)


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF in _BUSY_CODES


def _translated(error: sqlite3.OperationalError) -> Exception:
    """Return the error as the application knows it; one that nobody foresaw as it is."""
    if _is_busy(error):
        return StoreBusyError("the database is locked by another writer")
    if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL:
        return StoreFullError(f"the database has reached its {MAX_PAGES} pages, or its disk is full")
    if error.sqlite_errorcode & 0xFF in _DISK_CODES:
        return StoreUnavailableError(f"the disk does not take it ({error})")
    return error
