"""`get`, `gets`, `gat`, `gats` of any number of keys, in memory for a few.

A client may ask for thousands of keys in one line, longer than anything that one wants to hold, and for more
values than fit into memory. So such a line is executed in batches of BATCH_KEYS: each is a `Command` of its own,
and all but the last are `partial`, whose replies have no END. A connection executes its commands one by one and
reads on only when a reply is sent: it holds one read and one batch's values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from services.messages import MAX_KEY_BYTES, Command, Messages
from services.protocols.memcache_lines import BAD_EXPTIME, UNKNOWN, LineError, error_reply, number_32, valid_keys

BATCH_KEYS = 16
MIN_PIECES_BYTES = 2048
"""From here on, an unfinished line is read in pieces. Below, as in the real one, a bad key spoils the whole line."""

_BEGINNING = re.compile(rb" *+(?:(gets?)|(gats?) ++([^ \n\0]++)) ")


def begins_long_get(unread: bytes | bytearray) -> bool:
    """Return whether `unread`, which has no end of line, is a get that is better read in pieces."""
    return len(unread) > MIN_PIECES_BYTES and _BEGINNING.match(unread) is not None


def batches(command: Command) -> Iterator[Command]:
    """The commands that together do what `command` says."""
    keys = command.keys
    for start in range(0, len(keys), BATCH_KEYS):
        more = start + BATCH_KEYS < len(keys)
        yield Command(command.name, keys[start : start + BATCH_KEYS], exptime=command.exptime, partial=more)


def begin_long_get(unread: bytes) -> tuple[LongGet, Messages]:
    """The line that begins with `unread`, and what can be executed of it already."""
    match = _BEGINNING.match(unread)
    if match is None:
        raise ValueError("not a get: ask begins_long_get first")
    get = LongGet(Command((match[1] or match[2]).decode()))
    return get, get.begin(match[3], unread[match.end() :])


class LongGet:
    """One line, read in pieces. Holds less than a batch of keys, and the beginning of one more."""

    __slots__ = ("_command", "_keys", "_tail", "settled")

    def __init__(self, command: Command) -> None:
        self._command = command
        self._keys: list[bytes] = []
        self._tail = b""
        """The bytes behind the last blank: a key, or a part of one."""
        self.settled = False
        """The reply is complete; what is still to come of the line means nothing."""

    def begin(self, exptime: bytes | None, keys: bytes) -> Messages:
        """The first piece: the expiry time of a `gat`, and some keys."""
        try:
            self._command.exptime = number_32(exptime, BAD_EXPTIME) if exptime else 0
        except LineError as error:
            return self._fail(error)
        return self.receive(keys)

    def receive(self, piece: bytes) -> Messages:
        """The batches that `piece` completes, or what is wrong with it. It holds no end of line."""
        if self.settled:
            return []
        text, nul, _ = (self._tail + piece).partition(b"\0")
        *words, self._tail = text.split(b" ")
        if len(self._tail.removesuffix(b"\r")) > MAX_KEY_BYTES:
            words.append(self._tail)
        messages = self._take(words)
        return messages + self._finish(self._tail) if nul else messages

    def end(self) -> Messages:
        """Return what is left, at the end of the line."""
        return self._finish(self._tail.removesuffix(b"\r"))

    def _take(self, words: list[bytes]) -> Messages:
        """The full batches, as far as more keys follow."""
        try:
            self._keys += valid_keys([word for word in words if word])
        except LineError as error:
            return self._fail(error)
        *full, last = batches(self._command_of(self._keys)) if self._keys else [self._command]
        self._keys = list(last.keys)
        return [*full]

    def _finish(self, tail: bytes) -> Messages:
        if self.settled:
            return []
        messages = self._take([tail])
        if self.settled:
            return messages
        self.settled = True
        if not self._keys and self._command.name in ("get", "gets"):
            return [error_reply(UNKNOWN)]
        return [*messages, self._command_of(self._keys)]

    def _fail(self, error: LineError) -> Messages:
        self.settled = True
        self._keys = []
        self._tail = b""
        return [error_reply(str(error))]

    def _command_of(self, keys: list[bytes]) -> Command:
        return Command(self._command.name, tuple(keys), exptime=self._command.exptime)
