"""The application's memory: the interface that both stores offer.

A store holds four things: items (the key-value data, shared by HTTP and memcached), counters, claims
(the ids of increments already made) and records (the response to each idempotency key). Reads
go to the store at once; whoever writes opens a transaction:

    with store.transaction() as transaction:
        transaction.set_counter(name, transaction.counter(name) + 1)

Transactions of one store follow one another, whichever thread or process opens them, and one that
ends in an exception leaves no trace in counters, claims and records. Commands on items write once,
as their last step, so they need no undoing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple
from typing import Protocol as Interface

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

KEYS_LIMIT_BYTES = 64 * 1024 * 1024
INCREMENTS_LIMIT_BYTES = 48 * 1024 * 1024
MAX_COUNTERS = 100_000
MIN_AGE_SECONDS = 10.0
"""A record or an increment younger than this is never evicted: exactly once holds at least for so long."""
NEVER = math.inf
"""Expiry of an item that has none."""


class StoreUnavailableError(Exception):
    """The store cannot take this access now; trying again after `retry_after_seconds` may help."""

    retry_after_seconds: float = 1


class StoreBusyError(StoreUnavailableError):
    """Someone else has kept the store locked for longer than we may wait."""


class StoreFullError(StoreUnavailableError):
    """A bound is reached, and everything stored is still needed."""


class CountersFullError(StoreFullError):
    """There are as many counters as may be: nothing makes room, and trying again does not help."""

    def __init__(self) -> None:
        super().__init__(f"there are {MAX_COUNTERS} counters already, and no counter is ever dropped")


class StoreCrowdedError(StoreUnavailableError):
    """The bound on keys or increments is reached, and the oldest is younger than MIN_AGE_SECONDS."""

    def __init__(self, retry_after_seconds: float) -> None:
        super().__init__("all that is remembered is too young to be forgotten")
        self.retry_after_seconds = retry_after_seconds


class Item(NamedTuple):
    """A value with what memcached keeps beside it. `expires` is a time of the store's clock."""

    value: bytes
    flags: int
    expires: float
    cas: int


class Record(NamedTuple):
    """An idempotency key in use. While the request runs, `code` is empty and `expires` ends its lease.

    `token` tells the one who holds the lease from one who took it over.
    """

    fingerprint: bytes
    token: bytes
    expires: float
    code: str = ""
    body: bytes = b""


class Transaction(Interface):
    """Reads and writes that nobody else's come between."""

    def item(self, key: bytes) -> Item | None:
        """The live item under `key`."""

    def put_item(self, key: bytes, value: bytes, flags: int = 0, expires: float = NEVER) -> None:
        """Store an item, under a cas number never used before."""

    def touch_item(self, key: bytes, expires: float) -> None:
        """Change when the item under `key` expires, and nothing else."""

    def mark_item(self, key: bytes, flags: int) -> None:
        """Change the flags of the item under `key`, and nothing else; neither its cas."""

    def delete_item(self, key: bytes) -> None:
        """Forget the item under `key`, if there is one."""

    def flush_items(self, due: float) -> None:
        """Forget every item stored before `due`; replaces an earlier flush that is not yet due."""

    def counter(self, name: bytes) -> int:
        """A counter's value; 0 before its first increment."""

    def set_counter(self, name: bytes, value: int) -> None:
        """Store a counter's value, a signed 64-bit number. Raises `CountersFullError` for one too many."""

    def claim(self, scope: bytes, name: bytes, ttl_seconds: float = NEVER) -> bool:
        """Insert (scope, name), unique for `ttl_seconds`; False where it was there already."""

    def record(self, key: bytes) -> Record | None:
        """Return the record of an idempotency key, expired or not."""

    def put_record(self, key: bytes, record: Record) -> None:
        """Remember `record`, in place of an older one. Raises `StoreCrowdedError` where none may be evicted."""

    def take_evicted(self) -> int:
        """Return how many records and claims were evicted since the last call."""


class Store(Interface):
    """Shared by every thread that was given it."""

    clock: Callable[[], float]
    """Seconds since the epoch: memcached's expiry times are absolute, and survive a restart in sqlite."""

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Open a transaction; commits at the end of the block, and is undone by an exception."""

    def item(self, key: bytes) -> Item | None:
        """The live item under `key`."""

    def counter(self, name: bytes) -> int:
        """A counter's value; 0 before its first increment."""

    def record(self, key: bytes) -> Record | None:
        """Return the record of an idempotency key, expired or not."""

    def statistics(self) -> dict[str, int]:
        """Return figures of the store itself, by memcached's names where memcached has one."""

    def checkpoint(self) -> None:
        """Housekeeping that may wait for a disk: never call it from an event loop."""
