"""memcached's commands, with the replies of memcached 1.6, on the same store as `/kv`.

A reply's `body` is the whole reply, as it goes over the wire; its `code` is the first word, for the
metrics. Protocol errors (a key too long, a number that is none) never come here: the protocol replies to
them. `noreply` is the protocol's business as well.

What differs from the real one, on purpose: statistics are a handful, those of the worker that
replies; items are evicted by size of the whole, not slab by slab.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.apps.memcache_items import added, client_flags, expires_at
from services.apps.memcache_meta import NON_NUMERIC, MetaCommands
from services.apps.memcache_statistics import VERSION, Statistics
from services.apps.store import StoreUnavailableError
from services.messages import MAX_VALUE_BYTES, Command, Response
from services.strtol import unsigned_64

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.apps.store import Item, Store, Transaction

_CAS_COUNTS = {"": "cas_hits", "EXISTS": "cas_badval", "NOT_FOUND": "cas_misses"}


class MemcacheCommands:
    """Executes one command. The counts behind `stats` are this worker's own, so one thread calls this."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._statistics = Statistics(store)
        self._counts = self._statistics.counts
        self._executors: dict[str, Callable[[Command], Response]] = {
            "get": self._get,
            "gets": self._get,
            "gat": self._get_and_touch,
            "gats": self._get_and_touch,
            "delete": self._delete,
            "incr": self._add,
            "decr": self._add,
            "touch": self._touch,
            "flush_all": self._flush_all,
            "version": lambda _command: Response("VERSION", f"VERSION {VERSION}\r\n".encode()),
            "verbosity": lambda _command: _reply("OK"),
            "slabs": lambda _command: _reply("OK"),
            "stats": self._stats,
            "echo": lambda command: Response("ECHO", command.value),
            "quit": lambda _command: Response("QUIT"),
        } | dict.fromkeys(("set", "add", "replace", "append", "prepend", "cas"), self._put)
        self._executors |= MetaCommands(store, self._statistics).executors()

    def __call__(self, command: Command) -> Response:
        """The whole reply. Raises `StoreUnavailableError`."""
        execute = self._executors.get(command.name)
        if execute is None:
            return _reply("ERROR")
        return execute(command)

    # Reading

    def _get(self, command: Command) -> Response:
        self._counts["cmd_get"] += len(command.keys)
        found = _find(command.keys, self._store.item)
        self._statistics.count_hits("get", len(found), len(command.keys) - len(found))
        return _values(command, found)

    def _get_and_touch(self, command: Command) -> Response:
        with self._store.transaction() as transaction:
            found = _find(command.keys, transaction.item)
            expires = self._expires(command.exptime)
            for key, _item in found:
                transaction.touch_item(key, expires)
        self._counts["cmd_touch"] += len(command.keys)
        self._counts["cmd_get"] += len(command.keys)
        for name in ("get", "touch"):
            self._statistics.count_hits(name, len(found), len(command.keys) - len(found))
        return _values(command, found)

    # Writing

    def _put(self, command: Command) -> Response:
        key = command.keys[0]
        self._counts["cmd_set"] += 1
        with self._store.transaction() as transaction:
            old = transaction.item(key)
            refusal = _refusal(command, old)
            if command.name == "cas":
                self._counts[_CAS_COUNTS[refusal]] += 1
            if refusal:
                return _reply(refusal)
            if command.name in ("append", "prepend") and old is not None:
                return _join(transaction, command, old)
            transaction.put_item(key, command.value, command.flags, self._expires(command.exptime))
        return _reply("STORED")

    def _delete(self, command: Command) -> Response:
        key = command.keys[0]
        with self._store.transaction() as transaction:
            known = transaction.item(key) is not None
            transaction.delete_item(key)
        self._statistics.count_hits("delete", known, not known)
        return _reply("DELETED" if known else "NOT_FOUND")

    def _add(self, command: Command) -> Response:
        key = command.keys[0]
        with self._store.transaction() as transaction:
            item = transaction.item(key)
            if item is None:
                self._counts[f"{command.name}_misses"] += 1
                return _reply("NOT_FOUND")
            number = unsigned_64(item.value)
            if number is None:
                return Response("CLIENT_ERROR", NON_NUMERIC)
            digits = added(number, command.delta, down=command.name == "decr")
            # A shorter number keeps the item's length: the real one overwrites in place and fills with blanks.
            transaction.put_item(key, digits.ljust(len(item.value)), item.flags, item.expires)
        self._counts[f"{command.name}_hits"] += 1
        return Response("NUMBER", digits + b"\r\n")

    def _touch(self, command: Command) -> Response:
        key = command.keys[0]
        self._counts["cmd_touch"] += 1
        with self._store.transaction() as transaction:
            known = transaction.item(key) is not None
            # Nothing, where there is nothing.
            transaction.touch_item(key, self._expires(command.exptime))
        self._statistics.count_hits("touch", known, not known)
        return _reply("TOUCHED" if known else "NOT_FOUND")

    def _flush_all(self, command: Command) -> Response:
        self._counts["cmd_flush"] += 1
        due = self._expires(command.exptime) if command.exptime > 0 else self._store.clock()
        with self._store.transaction() as transaction:
            transaction.flush_items(due)
        return _reply("OK")

    def _expires(self, exptime: int) -> float:
        return expires_at(exptime, self._store.clock())

    # Telling

    def _stats(self, command: Command) -> Response:
        if command.keys == (b"reset",):
            self._statistics.reset()
            return Response("OK", b"RESET\r\n")
        report = self._statistics.report(command.keys[0] if command.keys else b"")
        return Response("END" if report == b"END\r\n" else "STAT", report)


def unavailable_reply(error: StoreUnavailableError) -> Response:
    """memcached's form of "503, try again"."""
    return Response("SERVER_ERROR", f"SERVER_ERROR {error}\r\n".encode())


def _refusal(command: Command, old: Item | None) -> str:
    """Reason that a storage command does not store, as memcached says it; empty where it does."""
    if command.name == "add":
        return "NOT_STORED" if old else ""
    if command.name in ("replace", "append", "prepend"):
        return "" if old else "NOT_STORED"
    if command.name == "cas":
        if old is None:
            return "NOT_FOUND"
        return "" if old.cas == command.cas else "EXISTS"
    return ""


def _join(transaction: Transaction, command: Command, old: Item) -> Response:
    """`append` and `prepend` keep flags and expiry time, and ignore the command's own."""
    value = old.value + command.value if command.name == "append" else command.value + old.value
    if len(value) > MAX_VALUE_BYTES:
        return _reply("NOT_STORED")
    transaction.put_item(command.keys[0], value, client_flags(old), old.expires)
    return _reply("STORED")


def _find(keys: tuple[bytes, ...], item_of: Callable[[bytes], Item | None]) -> list[tuple[bytes, Item]]:
    """The items that are there. The protocol asks for a few keys at a time, so they need no bound here."""
    return [(key, item) for key in keys if (item := item_of(key)) is not None]


def _values(command: Command, found: list[tuple[bytes, Item]]) -> Response:
    with_cas = command.name in ("gets", "gats")
    body = b"".join([_value(key, item, with_cas) for key, item in found])
    if command.partial:
        return Response("", body)
    return Response("VALUE" if found else "END", body + b"END\r\n")


def _value(key: bytes, item: Item, with_cas: bool) -> bytes:
    if with_cas:
        return b"VALUE %b %d %d %d\r\n%b\r\n" % (key, client_flags(item), len(item.value), item.cas, item.value)
    return b"VALUE %b %d %d\r\n%b\r\n" % (key, client_flags(item), len(item.value), item.value)


def _reply(word: str) -> Response:
    return Response(word, word.encode() + b"\r\n")
