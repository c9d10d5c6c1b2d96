"""memcached's meta commands (`mg ms md ma mn me`), with the replies of memcached 1.6.

A reply's flags come in the order asked. Its `code`, for the metrics, is the word with which the classic command
reports the same outcome. What differs from the real one, on purpose: whether an item was hit before (h) and when
(l) is known of commands that asked for h or l, or that may write for another reason (N, R, T), and of `ms`; a
read that asks for neither leaves no trace. Flag u keeps that trace away, but not the place in the order of use.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from services.apps.memcache_items import (
    BINARY_KEY,
    FETCHED,
    STALE,
    TOKEN_SENT,
    added,
    client_flags,
    expires_at,
    seconds_left,
    seconds_since_access,
    stamped,
)
from services.apps.store import NEVER, Item
from services.messages import MAX_VALUE_BYTES, Command, Response
from services.strtol import TWO_TO_32, signed_32, unsigned_64

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.apps.memcache_statistics import Statistics
    from services.apps.store import Store, Transaction

NON_NUMERIC = b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"
_WRITING = frozenset({b"N", b"R", b"T", b"h", b"l"})
_CODES = {
    "ms": {"HD": "STORED", "NS": "NOT_STORED", "EX": "EXISTS", "NF": "NOT_FOUND"},
    "md": {"HD": "DELETED", "EX": "EXISTS", "NF": "NOT_FOUND"},
    "ma": {"EX": "EXISTS", "NF": "NOT_FOUND"},
}

Flags = dict[bytes, bytes]


class MetaCommands:
    """Executes one meta command. Called by one worker's thread."""

    def __init__(self, store: Store, statistics: Statistics) -> None:
        self._store = store
        self._statistics = statistics

    def executors(self) -> dict[str, Callable[[Command], Response]]:
        """The commands' names, and who executes each."""
        return {
            "mg": self._get,
            "ms": self._set,
            "md": self._delete,
            "ma": self._add,
            "mn": lambda _command: Response("OK", b"MN\r\n"),
            "me": self._debug,
        }

    # Reading

    def _get(self, command: Command) -> Response:
        key, flags = command.keys[0], _flags(command)
        item = None if flags.keys() & _WRITING else self._store.item(key)
        # Whoever sees a stale item first is asked to fetch it anew, and that is written down.
        if flags.keys() & _WRITING or (item is not None and item.flags & STALE):
            hit = self._get_and_mark(key, flags)
        else:
            hit = None if item is None else _read(key, item, flags, self._store.clock())[0]
        self._statistics.counts["cmd_get"] += 1
        self._statistics.count_hits("get", hit is not None, hit is None)
        if hit is None:
            return Response("END", b"" if b"q" in flags else _line(b"EN", _echoed(key, flags)))
        return Response("VALUE", hit)

    def _get_and_mark(self, key: bytes, flags: Flags) -> bytes | None:
        """The reply to a hit. An item may be made on the way (N), touched (T), and is marked as read."""
        now = self._store.clock()
        with self._store.transaction() as transaction:
            item = transaction.item(key)
            created = item is None and b"N" in flags
            if created:
                transaction.put_item(key, b"")
                item = transaction.item(key)
            if item is None:
                return None
            reply, after = _read(key, item, flags, now, created=created)
            if b"u" not in flags:
                after = after._replace(flags=stamped(after.flags | FETCHED, now))
            _change(transaction, key, item, after)
        return reply

    def _debug(self, command: Command) -> Response:
        key = command.keys[0]
        item = self._store.item(key)
        self._statistics.counts["cmd_meta"] += 1
        if item is None:
            return Response("END", b"EN\r\n")
        now = self._store.clock()
        expires = "-1" if item.expires == NEVER else str(-seconds_left(item, now))
        fetched = "yes" if item.flags & FETCHED else "no"
        text = (
            f"exp={expires} la={seconds_since_access(item, now)} cas={item.cas} fetch={fetched} "
            f"cls=1 size={len(key) + len(item.value)}"
        )
        shown = base64.b64encode(key) if item.flags & BINARY_KEY else key
        return Response("VALUE", _line(b"ME", [shown, text.encode()]))

    # Writing

    def _set(self, command: Command) -> Response:
        key, flags = command.keys[0], _flags(command)
        self._statistics.counts["cmd_set"] += 1
        with self._store.transaction() as transaction:
            old = transaction.item(key)
            outcome, new = self._stored(command.value, flags, old)
            if new is not None:
                transaction.put_item(key, new.value, new.flags, new.expires)
            stored = transaction.item(key) if new is not None and b"c" in flags else None
        cas = stored.cas if stored is not None else 0
        if outcome == "HD" and b"q" in flags:
            return Response("STORED")
        return _outcome("ms", outcome, _echoed(key, flags, {b"c": b"c%d" % cas}))

    def _stored(self, value: bytes, flags: Flags, old: Item | None) -> tuple[str, Item | None]:
        """The outcome of a set in one of its modes, and the item to store; its cas means nothing."""
        now, mode = self._store.clock(), flags.get(b"M", b"S")
        marks = stamped(_number(flags, b"F") % TWO_TO_32 | (BINARY_KEY if b"b" in flags else 0), now)
        new = Item(value, marks, expires_at(_signed(flags, b"T"), now), 0)
        if mode == b"E":
            return ("HD", new) if old is None else ("NS", None)
        if mode in (b"A", b"P"):
            return _joined(value, flags, old, in_front=mode == b"P")
        if b"C" in flags:
            return _compared(new, flags, old)
        if mode == b"R" and old is None:
            return "NS", None
        return "HD", new

    def _delete(self, command: Command) -> Response:
        key, flags = command.keys[0], _flags(command)
        with self._store.transaction() as transaction:
            item = transaction.item(key)
            outcome = "NF" if item is None else "EX" if _differs(item, flags) else "HD"
            if outcome == "HD" and item is not None and b"I" in flags:
                self._make_stale(transaction, key, item, flags)
            elif outcome == "HD":
                transaction.delete_item(key)
        self._statistics.count_hits("delete", outcome == "HD", outcome != "HD")
        if outcome == "HD" and b"q" in flags:
            return Response("DELETED")
        return _outcome("md", outcome, _echoed(key, flags))

    def _make_stale(self, transaction: Transaction, key: bytes, item: Item, flags: Flags) -> None:
        """Put the item again, for a new cas."""
        expires = expires_at(_signed(flags, b"T"), self._store.clock()) if b"T" in flags else item.expires
        transaction.put_item(key, item.value, (item.flags | STALE) & ~TOKEN_SENT, expires)

    def _add(self, command: Command) -> Response:
        key, flags = command.keys[0], _flags(command)
        down = flags.get(b"M") in (b"D", b"-")
        with self._store.transaction() as transaction:
            item = transaction.item(key)
            if item is None and b"N" not in flags:
                self._count_add(down, hit=False)
                return _outcome("ma", "NF", _echoed(key, flags))
            if item is None:
                digits = b"%d" % _number(flags, b"J")
                reply = self._put_number(transaction, key, Item(digits, 0, NEVER, 0), digits, flags, created=True)
                return Response("NUMBER", reply)
            number = unsigned_64(item.value)
            if item.value and _number(flags, b"C") and _differs(item, flags):
                return _outcome("ma", "EX", _echoed(key, flags))
            if number is None:
                return Response("CLIENT_ERROR", NON_NUMERIC)
            digits = added(number, _number(flags, b"D", 1), down=down)
            reply = self._put_number(transaction, key, item, digits, flags)
        self._count_add(down, hit=True)
        return Response("NUMBER", b"" if b"q" in flags else reply)

    def _put_number(
        self, transaction: Transaction, key: bytes, item: Item, digits: bytes, flags: Flags, *, created: bool = False
    ) -> bytes:
        """Store the number, and build the reply with the item as it then is."""
        # A shorter number keeps the item's length: the real one overwrites in place and fills with blanks.
        value = digits.ljust(len(item.value))
        transaction.put_item(key, value, item.flags, item.expires)
        before = transaction.item(key) or item
        wanted = {flag: argument for flag, argument in flags.items() if flag in b"NTOctkv"}
        now = self._store.clock()
        words, after, _won = _show(key, before._replace(value=digits), wanted, now, created=created)
        _change(transaction, key, before, after)
        return _hit(after, flags, words)

    def _count_add(self, down: bool, *, hit: bool) -> None:
        self._statistics.count_hits("decr" if down else "incr", hit, not hit)


# Flags


def _flags(command: Command) -> Flags:
    return {word[:1]: word[1:] for word in command.meta}


def _number(flags: Flags, name: bytes, default: int = 0) -> int:
    """An unsigned argument; the protocol has let none through that is no number."""
    return unsigned_64(flags.get(name, b"")) or 0 if name in flags else default


def _signed(flags: Flags, name: bytes) -> int:
    return signed_32(flags.get(name, b"")) or 0


def _differs(item: Item, flags: Flags) -> bool:
    """Return whether the client compares (flag C), and the item is another one."""
    return b"C" in flags and item.cas != _number(flags, b"C")


# What is stored


def _joined(value: bytes, flags: Flags, old: Item | None, *, in_front: bool) -> tuple[str, Item | None]:
    """Append and prepend keep the client's flags and the expiry time of what is there."""
    if old is None:
        return "NS", None
    if _number(flags, b"C") and _differs(old, flags):
        return "EX", None
    joined = value + old.value if in_front else old.value + value
    if len(joined) > MAX_VALUE_BYTES:
        return "NS", None
    return "HD", Item(joined, client_flags(old), old.expires, 0)


def _compared(new: Item, flags: Flags, old: Item | None) -> tuple[str, Item | None]:
    """A set with flag C. With flag I, a value that is older than the one that is there is taken, but as stale."""
    if old is None:
        return "NF", None
    if not _differs(old, flags):
        return "HD", new
    if b"I" in flags and 0 < _number(flags, b"C") < old.cas:
        marks = new.flags | STALE | old.flags & TOKEN_SENT
        return "HD", new._replace(flags=marks, expires=old.expires)
    return "EX", None


def _change(transaction: Transaction, key: bytes, before: Item, after: Item) -> None:
    """Write what a read has changed; the cas stays."""
    if after.expires != before.expires:
        transaction.touch_item(key, after.expires)
    if after.flags != before.flags:
        transaction.mark_item(key, after.flags)


# Replies

_SHOWN: dict[bytes, Callable[[bytes, Item, float], bytes]] = {
    b"s": lambda _key, item, _now: b"%d" % len(item.value),
    b"t": lambda _key, item, now: b"%d" % seconds_left(item, now),
    b"c": lambda _key, item, _now: b"%d" % item.cas,
    b"f": lambda _key, item, _now: b"%d" % client_flags(item),
    b"l": lambda _key, item, now: b"%d" % seconds_since_access(item, now),
    b"h": lambda _key, item, _now: b"1" if item.flags & FETCHED else b"0",
    b"k": lambda key, item, _now: _shown_key(key, binary=bool(item.flags & BINARY_KEY)),
}
"""The flags that ask for something, which follows the letter in the reply."""


def _read(key: bytes, item: Item, flags: Flags, now: float, *, created: bool = False) -> tuple[bytes, Item]:
    """The reply of `mg` to a hit, and the item as it is then."""
    words, item, won = _show(key, item, flags, now, created=created)
    marks, item = _leased(item, won=won)
    return _hit(item, flags, words + marks), item


def _show(key: bytes, item: Item, flags: Flags, now: float, *, created: bool = False) -> tuple[list[bytes], Item, bool]:
    """The words that the flags ask for, the item with its new expiry time, and whether the client fetches it anew.

    In the order of the flags: t behind T shows the new time.
    """
    words, won = [], False
    for flag, argument in flags.items():
        if flag in _SHOWN:
            words.append(flag + _SHOWN[flag](key, item, now))
        elif flag == b"O":
            words.append(flag + argument)
        elif flag == b"T" or (flag == b"N" and created):
            item = item._replace(expires=expires_at(_signed(flags, flag), now))
            won = won or flag == b"N"
        elif flag == b"R":
            won = won or (not created and _wants_recache(item, _signed(flags, flag), now))
    return words, item, won


def _hit(item: Item, flags: Flags, words: list[bytes]) -> bytes:
    if b"v" in flags:
        return _line(b"VA %d" % len(item.value), words) + item.value + b"\r\n"
    return _line(b"HD", words)


def _wants_recache(item: Item, seconds: int, now: float) -> bool:
    return not item.flags & TOKEN_SENT and seconds != 0 and item.expires < expires_at(seconds, now)


def _leased(item: Item, *, won: bool) -> tuple[list[bytes], Item]:
    """The words that say who fetches anew: Z somebody has been told to, X the item is stale, W you are told now."""
    words = []
    if item.flags & TOKEN_SENT:
        words.append(b"Z")
    if item.flags & STALE:
        words.append(b"X")
        won = won or not item.flags & TOKEN_SENT
    if won:
        words.append(b"W")
        item = item._replace(flags=item.flags | TOKEN_SENT)
    return words, item


def _echoed(key: bytes, flags: Flags, shown: Flags | None = None) -> list[bytes]:
    """The words of a reply that has no item: the client's own token, its key, and what `shown` adds."""
    shown = {b"k": b"k" + _shown_key(key, binary=b"b" in flags)} | (shown or {})
    return [shown[flag] if flag in shown else flag + flags[flag] for flag in flags if flag in shown or flag == b"O"]


def _shown_key(key: bytes, *, binary: bool) -> bytes:
    """The key; one that the client wrote in base64 is written so again, and flag b tells it."""
    return base64.b64encode(key) + b" b" if binary else key


def _line(head: bytes, words: list[bytes]) -> bytes:
    return b" ".join([head, *words]) + b"\r\n"


def _outcome(name: str, outcome: str, words: list[bytes]) -> Response:
    return Response(_CODES[name][outcome], _line(outcome.encode(), words))
