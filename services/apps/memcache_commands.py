"""memcached's commands, with the replies of memcached 1.6, on the same store as `/kv`.

A reply's `body` is the whole reply, as it goes over the wire; its `code` is the first word, for the
metrics. Protocol errors (a key too long, a number that is none) never come here: the protocol answers
them. `noreply` is the protocol's business as well.

What differs from the real one, on purpose: statistics are a handful, those of the worker that
answers; items are evicted by size of the whole, not slab by slab.
"""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING

from services.apps.store import MAX_VALUE_BYTES, NEVER, StoreUnavailableError
from services.messages import Command, Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.apps.store import Item, Store, Transaction

RELATIVE_LIMIT_SECONDS = 30 * 24 * 3600
"""An expiry time up to here counts from now; a larger one is a time of day (protocol.txt)."""
VERSION = "1.6.0-accept-lab"
"""The dialect that is spoken: clients read the numbers to know what they may send."""
MAX_VALUES_BYTES = 64 * 1024 * 1024
"""What the values of one `get` may add up to: a line has room for 30,000 keys of 1 MiB each."""

_TWO_TO_63, _TWO_TO_64 = 1 << 63, 1 << 64
# What C's strtoull takes: white space, a sign, digits; then the value must end or go on with white space or NUL.
_NUMBER = re.compile(rb"[ \t\n\v\f\r]*([+-]?)([0-9]+)(?=[ \t\n\v\f\r\0]|\Z)")
_NON_NUMERIC = b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"
_TOO_LARGE = b"SERVER_ERROR object too large for cache\r\n"
_TOO_MANY = b"SERVER_ERROR out of memory writing get response\r\n"


class MemcacheCommands:
    """Answers one command. The counts behind `stats` are this worker's own, so one thread calls this."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._started = store.clock()
        self._counts = dict.fromkeys(
            ("cmd_get", "cmd_set", "cmd_flush", "cmd_touch", "get_hits", "get_misses", "store_too_large"), 0
        )
        self._answers: dict[str, Callable[[Command], Response]] = {
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
            "stats": self._stats,
            "echo": lambda command: Response("ECHO", command.value),
            "quit": lambda _command: Response("QUIT"),
        } | dict.fromkeys(("set", "add", "replace", "append", "prepend", "cas"), self._put)

    def __call__(self, command: Command) -> Response:
        """The whole reply. Raises `StoreUnavailableError`."""
        answer = self._answers.get(command.name)
        if answer is None:
            return _reply("ERROR")
        return answer(command)

    # Reading

    def _get(self, command: Command) -> Response:
        return self._values(command, self._find(command.keys, self._store.item))

    def _get_and_touch(self, command: Command) -> Response:
        with self._store.transaction() as transaction:
            found = self._find(command.keys, transaction.item)
            expires = self._expires(command.exptime)
            for key, _item in found or ():
                transaction.touch_item(key, expires)
        self._counts["cmd_touch"] += len(command.keys)
        return self._values(command, found)

    def _find(
        self, keys: tuple[bytes, ...], item_of: Callable[[bytes], Item | None]
    ) -> list[tuple[bytes, Item]] | None:
        """What is there of `keys`; None where it is more than a reply may hold."""
        found: list[tuple[bytes, Item]] = []
        room = MAX_VALUES_BYTES
        for key in keys:
            item = item_of(key)
            if item is not None:
                room -= len(item.value)
                if room < 0:
                    return None
                found.append((key, item))
        return found

    def _values(self, command: Command, found: list[tuple[bytes, Item]] | None) -> Response:
        self._counts["cmd_get"] += len(command.keys)
        if found is None:
            return Response("SERVER_ERROR", _TOO_MANY)
        self._counts["get_hits"] += len(found)
        self._counts["get_misses"] += len(command.keys) - len(found)
        with_cas = command.name in ("gets", "gats")
        lines = [_value(key, item, with_cas) for key, item in found]
        return Response("VALUE" if lines else "END", b"".join(lines) + b"END\r\n")

    # Writing

    def _put(self, command: Command) -> Response:
        key = command.keys[0]
        self._counts["cmd_set"] += 1
        with self._store.transaction() as transaction:
            if len(command.value) > MAX_VALUE_BYTES:
                return self._refuse_large(transaction, command)
            old = transaction.item(key)
            refusal = _refusal(command, old)
            if refusal:
                return _reply(refusal)
            if command.name in ("append", "prepend") and old is not None:
                return _join(transaction, command, old)
            transaction.put_item(key, command.value, command.flags, self._expires(command.exptime))
        return _reply("STORED")

    def _refuse_large(self, transaction: Transaction, command: Command) -> Response:
        self._counts["store_too_large"] += 1
        # As the real one does: a `set` that fails leaves no old value behind, which would be stale.
        if command.name == "set":
            transaction.delete_item(command.keys[0])
        return Response("SERVER_ERROR", _TOO_LARGE)

    def _delete(self, command: Command) -> Response:
        key = command.keys[0]
        with self._store.transaction() as transaction:
            known = transaction.item(key)
            transaction.delete_item(key)
        return _reply("DELETED" if known else "NOT_FOUND")

    def _add(self, command: Command) -> Response:
        key = command.keys[0]
        with self._store.transaction() as transaction:
            item = transaction.item(key)
            if item is None:
                return _reply("NOT_FOUND")
            number = number_in(item.value)
            if number is None:
                return Response("CLIENT_ERROR", _NON_NUMERIC)
            digits = added(number, command.delta, down=command.name == "decr")
            # A shorter number keeps the item's length: the real one overwrites in place and fills with blanks.
            transaction.put_item(key, digits.ljust(len(item.value)), item.flags, item.expires)
        return Response("NUMBER", digits + b"\r\n")

    def _touch(self, command: Command) -> Response:
        key = command.keys[0]
        self._counts["cmd_touch"] += 1
        with self._store.transaction() as transaction:
            if transaction.item(key) is None:
                return _reply("NOT_FOUND")
            transaction.touch_item(key, self._expires(command.exptime))
        return _reply("TOUCHED")

    def _flush_all(self, command: Command) -> Response:
        self._counts["cmd_flush"] += 1
        due = self._expires(command.exptime) if command.exptime > 0 else self._store.clock()
        with self._store.transaction() as transaction:
            transaction.flush_items(due)
        return _reply("OK")

    def _expires(self, exptime: int) -> float:
        """The time of the store's clock that memcached's `exptime` means; a negative one is now, so already over."""
        if exptime == 0:
            return NEVER
        if exptime > RELATIVE_LIMIT_SECONDS:
            return float(exptime)
        return self._store.clock() + max(exptime, 0)

    # Telling

    def _stats(self, command: Command) -> Response:
        if command.keys == (b"reset",):
            self._counts = dict.fromkeys(self._counts, 0)
            return Response("OK", b"RESET\r\n")
        if command.keys:
            # The reports by slab, by size and so on: nothing here works that way.
            return _reply("END")
        now = self._store.clock()
        figures: dict[str, object] = {
            "pid": os.getpid(),
            "uptime": int(now - self._started),
            "time": int(time.time()),
            "version": VERSION,
            **self._counts,
            **self._store.statistics(),
        }
        lines = "".join(f"STAT {name} {value}\r\n" for name, value in figures.items())
        return Response("STAT", lines.encode() + b"END\r\n")


def answer_unavailable(error: StoreUnavailableError) -> Response:
    """memcached's form of "503, try again"."""
    return Response("SERVER_ERROR", f"SERVER_ERROR {error}\r\n".encode())


def number_in(value: bytes) -> int | None:
    """The unsigned 64-bit number at the start of `value`, read as memcached's `safe_strtoull` reads it.

    A minus sign is taken modulo 2^64, as C does, and refused only where the result would be negative
    as a signed number: "-1" is refused, "-9223372036854775809" is 2^63 - 1.
    """
    match = _NUMBER.match(value)
    # Twenty digits say it all; Python also refuses to convert numbers of thousands of digits.
    digits = match[2].lstrip(b"0") if match else b""
    if match is None or len(digits) > 20 or int(digits or b"0") >= _TWO_TO_64:
        return None
    number = int(digits or b"0")
    if match[1] != b"-":
        return number
    number = -number % _TWO_TO_64
    return number if number < _TWO_TO_63 else None


def added(number: int, delta: int, *, down: bool) -> bytes:
    """`incr` goes round at 2^64, `decr` stops at 0."""
    result = max(number - delta, 0) if down else (number + delta) % _TWO_TO_64
    return b"%d" % result


def _refusal(command: Command, old: Item | None) -> str:
    """Why a storage command does not store, as memcached says it; empty where it does."""
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
    transaction.put_item(command.keys[0], value, old.flags, old.expires)
    return _reply("STORED")


def _value(key: bytes, item: Item, with_cas: bool) -> bytes:
    if with_cas:
        return b"VALUE %b %d %d %d\r\n%b\r\n" % (key, item.flags, len(item.value), item.cas, item.value)
    return b"VALUE %b %d %d\r\n%b\r\n" % (key, item.flags, len(item.value), item.value)


def _reply(word: str) -> Response:
    return Response(word, word.encode() + b"\r\n")
