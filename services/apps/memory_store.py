"""The store in memory: shared by the threads of a process, gone with it, copied by a fork.

One lock guards everything and is held for a few dictionary operations at a time. Sharding it was
left out: a request spends some 0.2 µs inside it, and one lock makes a transaction over two tables simple.
Behind process workers each worker has a copy of its own: what one stored another does not see.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from services.apps.store import (
    INCREMENTS_LIMIT_BYTES,
    KEYS_LIMIT_BYTES,
    MAX_COUNTERS,
    MIN_AGE_SECONDS,
    NEVER,
    CountersFullError,
    Item,
    Record,
    StoreCrowdedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

ITEMS_LIMIT_BYTES = 64 * 1024 * 1024
"""memcached's default. The least recently used items make room for new ones."""
ITEM_OVERHEAD_BYTES = 300
"""Memory of an item besides its key and value in CPython 3.11: 283 measured with tracemalloc over 50,000 items."""
RECORD_OVERHEAD_BYTES = 490
"""Besides key and body: 460 measured with tracemalloc over 120,000 records, which is 54 MiB in fact and 58 as charged.
64 MiB hold 133,000 with keys of 10 bytes."""
CLAIM_OVERHEAD_BYTES = 160
"""Besides scope and name: measured with tracemalloc over 220,000 increments: 155, 36 MiB with names of 8 bytes."""

_ABSENT: Any = object()


class _Remembered:
    """Records in the order they were stored, under a bound of bytes: the oldest finished ones make room."""

    def __init__(self, clock: Callable[[], float], limit_bytes: int, overhead_bytes: int) -> None:
        self._clock = clock
        self._limit_bytes = limit_bytes
        self._overhead_bytes = overhead_bytes
        self._running: dict[bytes, tuple[Record, float]] = {}
        self._finished: OrderedDict[bytes, tuple[Record, float]] = OrderedDict()
        self.bytes = 0
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._running) + len(self._finished)

    def get(self, key: bytes) -> Record | None:
        entry = self._finished.get(key) or self._running.get(key)
        return entry[0] if entry else None

    def replace(self, key: bytes, entry: tuple[Record, float] | None) -> tuple[Record, float] | None:
        """Store `entry`, or nothing; return the one before."""
        before = self._finished.pop(key, None) or self._running.pop(key, None)
        if before:
            self.bytes -= self._size(key, before[0])
        if entry:
            self.bytes += self._size(key, entry[0])
            (self._finished if entry[0].code else self._running)[key] = entry
        return before

    def make_room(self, key: bytes, record: Record) -> None:
        """Drop what has expired, then evict. A key that is known keeps its place, whatever its size."""
        now = self._clock()
        self._drop_expired(now)
        limit = self._limit_bytes - self._size(key, record)
        if self.bytes <= limit or key in self._finished or key in self._running:
            return
        self._drop_ended_leases(now)
        while self.bytes > limit:
            oldest, stored = next(((name, entry[1]) for name, entry in self._finished.items()), (b"", now))
            if stored + MIN_AGE_SECONDS > now:
                raise StoreCrowdedError(stored + MIN_AGE_SECONDS - now if self._finished else 1)
            self.replace(oldest, None)
            self.evicted += 1

    def _drop_expired(self, now: float) -> None:
        while self._finished:
            oldest, (first, _) = next(iter(self._finished.items()))
            if first.expires > now:
                return
            self.replace(oldest, None)

    def _drop_ended_leases(self, now: float) -> None:
        # Left behind by work that failed. What runs is little, beside what is finished.
        for key in [key for key, (record, _) in self._running.items() if record.expires <= now]:
            self.replace(key, None)

    def _size(self, key: bytes, record: Record) -> int:
        return self._overhead_bytes + len(key) + len(record.body)


class _Tables:
    """The data, and the transaction over it. Called with the store's lock held."""

    def __init__(self, clock: Callable[[], float], limit_bytes: int, keys_limit: int, increments_limit: int) -> None:
        self._clock = clock
        self.limit_bytes = limit_bytes
        self.items: OrderedDict[bytes, Item] = OrderedDict()
        self.bytes = 0
        self.evictions = 0
        self.reclaimed = 0
        self.total_items = 0
        self._cas = 0
        self._flush_due = NEVER
        self.counters: dict[bytes, int] = {}
        self.claims: OrderedDict[bytes, float] = OrderedDict()  # when each was made: a record would be twice as large
        self.claims_key_bytes = 0
        self.increments_limit = increments_limit
        self.evicted = 0
        self.records = _Remembered(clock, keys_limit, RECORD_OVERHEAD_BYTES)
        self._undo: list[tuple[Any, Any, Any]] = []

    # Items, in the order of their last use: the first is evicted first.

    def item(self, key: bytes) -> Item | None:
        if self._flush_due is not NEVER:
            self._flush_if_due()
        item = self.items.get(key)
        if item is None:
            return None
        if item.expires is not NEVER and item.expires <= self._clock():
            self.delete_item(key)
            self.reclaimed += 1
            return None
        self.items.move_to_end(key)
        return item

    def put_item(self, key: bytes, value: bytes, flags: int = 0, expires: float = NEVER) -> None:
        if self._flush_due is not NEVER:
            self._flush_if_due()
        self.delete_item(key)
        self._cas += 1
        self.total_items += 1
        self.items[key] = Item(value, flags, expires, self._cas)
        self.bytes += _footprint(key, value)
        while self.bytes > self.limit_bytes:
            oldest, item = self.items.popitem(last=False)
            self.bytes -= _footprint(oldest, item.value)
            self.evictions += 1

    def touch_item(self, key: bytes, expires: float) -> None:
        item = self.items.get(key)
        if item is not None:
            self.items[key] = item._replace(expires=expires)

    def mark_item(self, key: bytes, flags: int) -> None:
        item = self.items.get(key)
        if item is not None:
            self.items[key] = item._replace(flags=flags)

    def delete_item(self, key: bytes) -> None:
        item = self.items.pop(key, None)
        if item is not None:
            self.bytes -= _footprint(key, item.value)

    def flush_items(self, due: float) -> None:
        self._flush_if_due()
        self._flush_due = due
        self._flush_if_due()

    def _flush_if_due(self) -> None:
        # Looked at before every access, so whatever is here now was stored before the flush fell due.
        if self._flush_due <= self._clock():
            self._flush_due = NEVER
            self.items.clear()
            self.bytes = 0

    # Counters, claims and records: every write can be undone.

    def counter(self, name: bytes) -> int:
        return self.counters.get(name, 0)

    def set_counter(self, name: bytes, value: int) -> None:
        if len(self.counters) >= MAX_COUNTERS and name not in self.counters:
            raise CountersFullError
        self._write(self.counters, name, value)

    def claim(self, scope: bytes, name: bytes, ttl_seconds: float = NEVER) -> bool:
        now, key = self._clock(), b"%c%b%b" % (len(scope), scope, name)
        stored = self.claims.get(key)
        if stored is not None and stored + ttl_seconds > now:
            return False
        self._make_room_for_claim(key, now, ttl_seconds)
        self._write(self.claims, key, now)
        return True

    def _make_room_for_claim(self, key: bytes, now: float, ttl_seconds: float) -> None:
        while self.claims:
            oldest, stored = next(iter(self.claims.items()))
            size = self.claims_key_bytes + len(key) + (len(self.claims) + 1) * CLAIM_OVERHEAD_BYTES
            if stored + ttl_seconds > now:
                if size <= self.increments_limit:
                    break
                if stored + MIN_AGE_SECONDS > now:
                    raise StoreCrowdedError(stored + MIN_AGE_SECONDS - now)
                self.evicted += 1
            del self.claims[oldest]
            self.claims_key_bytes -= len(oldest)

    def record(self, key: bytes) -> Record | None:
        return self.records.get(key)

    def put_record(self, key: bytes, record: Record) -> None:
        self._remember(self.records, key, record)

    def take_evicted(self) -> int:
        evicted = self.evicted + self.records.evicted
        self.evicted = self.records.evicted = 0
        return evicted

    def _remember(self, table: _Remembered, key: bytes, record: Record) -> None:
        table.make_room(key, record)
        self._undo.append((table, key, table.replace(key, (record, self._clock()))))

    def _write(self, table: dict[Any, Any], key: object, value: object) -> None:
        before = table.pop(key, _ABSENT)
        self._undo.append((table, key, before))
        table[key] = value
        if table is self.claims and before is _ABSENT:
            self.claims_key_bytes += len(key)  # type: ignore[arg-type]

    def begin(self) -> None:
        self._undo.clear()

    def roll_back(self) -> None:
        for table, key, before in reversed(self._undo):
            if isinstance(table, _Remembered):
                table.replace(key, before)
            elif before is _ABSENT:
                del table[key]
                self.claims_key_bytes -= len(key) if table is self.claims else 0
            else:
                table[key] = before


class MemoryStore:
    """See `Store`. `limit_bytes` bounds the items, the other two the records and the claims."""

    def __init__(
        self,
        clock: Callable[[], float] = time.time,
        limit_bytes: int = ITEMS_LIMIT_BYTES,
        keys_limit_bytes: int = KEYS_LIMIT_BYTES,
        increments_limit_bytes: int = INCREMENTS_LIMIT_BYTES,
    ) -> None:
        self.clock = clock
        self._lock = threading.Lock()
        self._tables = _Tables(clock, limit_bytes, keys_limit_bytes, increments_limit_bytes)

    def transaction(self) -> MemoryStore:
        """The store is its own context manager: it has one lock, so there is one transaction at a time."""
        return self

    def __enter__(self) -> _Tables:
        self._lock.acquire()
        self._tables.begin()
        return self._tables

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._tables.roll_back()
        self._lock.release()

    def item(self, key: bytes) -> Item | None:
        """See `Store.item`."""
        with self._lock:
            return self._tables.item(key)

    def counter(self, name: bytes) -> int:
        """See `Store.counter`."""
        with self._lock:
            return self._tables.counter(name)

    def record(self, key: bytes) -> Record | None:
        """See `Store.record`."""
        with self._lock:
            return self._tables.record(key)

    def statistics(self) -> dict[str, int]:
        """Expired items count until somebody asks for them: they are dropped lazily."""
        with self._lock:
            tables = self._tables
            return {
                "curr_items": len(tables.items),
                "total_items": tables.total_items,
                "bytes": tables.bytes,
                "limit_maxbytes": tables.limit_bytes,
                "evictions": tables.evictions,
                "reclaimed": tables.reclaimed,
            }

    def checkpoint(self) -> None:
        """Nothing to do: memory has no disk to wait for."""


def _footprint(key: bytes, value: bytes) -> int:
    return len(key) + len(value) + ITEM_OVERHEAD_BYTES
