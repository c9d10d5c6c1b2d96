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

from services.apps.store import NEVER, Item, Record, StoreFullError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

ITEMS_LIMIT_BYTES = 64 * 1024 * 1024
"""memcached's default. The least recently used items make room for new ones."""
ITEM_OVERHEAD_BYTES = 300
"""What CPython 3.11 needs for an item beside its key and value: 283 measured with tracemalloc over 50,000 items."""
MAX_COUNTERS = 100_000
MAX_CLAIMS = 200_000
MAX_RECORDS = 100_000

_ABSENT: Any = object()


class _Tables:
    """The data, and the transaction over it. Called with the store's lock held."""

    def __init__(self, clock: Callable[[], float], limit_bytes: int, max_records: int) -> None:
        self._clock = clock
        self.limit_bytes = limit_bytes
        self.max_records = max_records
        self.items: OrderedDict[bytes, Item] = OrderedDict()
        self.bytes = 0
        self.evictions = 0
        self.reclaimed = 0
        self.total_items = 0
        self._cas = 0
        self._flush_due = NEVER
        self.counters: dict[bytes, int] = {}
        self.claims: dict[tuple[bytes, bytes], bool] = {}
        self.records: dict[bytes, Record] = {}
        self._undo: list[tuple[dict[Any, Any], Any, Any]] = []

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
            raise StoreFullError(f"there are {MAX_COUNTERS} counters already")
        self._write(self.counters, name, value)

    def claim(self, scope: bytes, name: bytes) -> bool:
        if (scope, name) in self.claims:
            return False
        if len(self.claims) >= MAX_CLAIMS:
            raise StoreFullError(f"{MAX_CLAIMS} increments are remembered already")
        self._write(self.claims, (scope, name), True)
        return True

    def record(self, key: bytes) -> Record | None:
        return self.records.get(key)

    def put_record(self, key: bytes, record: Record) -> None:
        self._drop_expired_records()
        if len(self.records) >= self.max_records and key not in self.records:
            raise StoreFullError(f"{self.max_records} idempotency keys are remembered, and all are still valid")
        self._write(self.records, key, record)

    def _drop_expired_records(self) -> None:
        now = self._clock()
        expired = []
        for key, record in self.records.items():
            # The oldest come first, and a finished one that is still valid ends the search. Those still
            # running have shorter lives and say nothing about the ones behind them.
            if record.expires <= now:
                expired.append(key)
            elif record.code:
                break
        for key in expired:
            del self.records[key]

    def _write(self, table: dict[Any, Any], key: object, value: object) -> None:
        self._undo.append((table, key, table.pop(key, _ABSENT)))
        table[key] = value

    def begin(self) -> None:
        self._undo.clear()

    def roll_back(self) -> None:
        for table, key, before in reversed(self._undo):
            if before is _ABSENT:
                del table[key]
            else:
                table[key] = before


class MemoryStore:
    """See `Store`. `limit_bytes` bounds the items, `max_records` the idempotency keys."""

    def __init__(
        self,
        clock: Callable[[], float] = time.time,
        limit_bytes: int = ITEMS_LIMIT_BYTES,
        max_records: int = MAX_RECORDS,
    ) -> None:
        self.clock = clock
        self._lock = threading.Lock()
        self._tables = _Tables(clock, limit_bytes, max_records)

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
