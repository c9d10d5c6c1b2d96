"""One line of memcached's text protocol: its words to a command, or to the error that the real one reports."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

from services.messages import MAX_KEY_BYTES, Command, Response
from services.strtol import TWO_TO_32, signed_32, unsigned_64

MAX_BLOCK_BYTES = (1 << 31) - 3
"""More than this is no size at all to the real one; up to this, a block that is too large is swallowed."""

BAD_LINE = "CLIENT_ERROR bad command line format"
BAD_DELETE = "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]"
BAD_DELTA = "CLIENT_ERROR invalid numeric delta argument"
BAD_EXPTIME = "CLIENT_ERROR invalid exptime argument"
NO_REASSIGNMENT = "CLIENT_ERROR slab reassignment disabled"
UNKNOWN = "ERROR"

GETS = frozenset({b"get", b"gets", b"gat", b"gats"})
STORAGE = frozenset({"set", "add", "replace", "append", "prepend", "cas"})
STATISTICS = frozenset({b"reset", b"items", b"slabs", b"sizes", b"settings", b"conns"})

DECIMAL = re.compile(rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)\Z")

Words = list[bytes]


class LineError(Exception):
    """The line cannot be a command; the text is the reply."""


@cache
def error_reply(text: str) -> Response:
    """A reply of one line. One object a text, never written to: a read may hold 65,536 lines that are none."""
    return Response(text.split(" ", 1)[0], text.encode() + b"\r\n")


# The parts of a line. All raise LineError.


def count(words: Words, least: int, most: int) -> None:
    """Refuse any other number of words."""
    if not least <= len(words) <= most:
        raise LineError(UNKNOWN)


def valid_keys(words: Words) -> tuple[bytes, ...]:
    """The words, if each may be a key."""
    for word in words:
        if len(word) > MAX_KEY_BYTES:
            raise LineError(BAD_LINE)
    return tuple(words)


def number_64(word: bytes, error: str) -> int:
    """An unsigned number; -1 is refused, -2^64 + 1 is 1."""
    number = unsigned_64(word)
    if number is None:
        raise LineError(error)
    return number


def number_32(word: bytes, error: str) -> int:
    """A signed number, cut to 32 bits."""
    number = signed_32(word)
    if number is None:
        raise LineError(error)
    return number


def wants_no_reply(words: Words) -> bool:
    """The last word says so."""
    return words[-1] == b"noreply"


# One parser a form of line. Each gets the command's name and the words behind it.


def parse_get(name: str, words: Words) -> Command:
    """get|gets KEY+"""
    if not words:
        raise LineError(UNKNOWN)
    return Command(name, valid_keys(words))


def parse_get_and_touch(name: str, words: Words) -> Command:
    """gat|gats EXPTIME KEY*"""
    if not words:
        raise LineError(UNKNOWN)
    return Command(name, exptime=number_32(words[0], BAD_EXPTIME), keys=valid_keys(words[1:]))


def parse_storage(name: str, words: Words) -> Command:
    """set|add|replace|append|prepend KEY FLAGS EXPTIME BYTES [noreply], cas with CAS before noreply"""
    expected = 5 if name == "cas" else 4
    count(words, expected, expected + 1)
    keys = valid_keys(words[:1])
    flags = number_64(words[1], BAD_LINE) % TWO_TO_32
    exptime = number_32(words[2], BAD_LINE)
    cas = number_64(words[4], BAD_LINE) if name == "cas" else 0
    if not 0 <= number_32(words[3], BAD_LINE) <= MAX_BLOCK_BYTES:
        raise LineError(BAD_LINE)
    return Command(name, keys, b"", flags, exptime, cas, noreply=wants_no_reply(words))


def parse_delete(name: str, words: Words) -> Command:
    """delete KEY [0] [noreply]"""
    count(words, 1, 3)
    if words[1:] not in ([], [b"0"], [b"noreply"], [b"0", b"noreply"]):
        raise LineError(BAD_DELETE)
    return Command(name, valid_keys(words[:1]), noreply=len(words) > 1 and wants_no_reply(words))


def parse_delta(name: str, words: Words) -> Command:
    """incr|decr KEY DELTA [noreply]"""
    count(words, 2, 3)
    return Command(name, valid_keys(words[:1]), delta=number_64(words[1], BAD_DELTA), noreply=wants_no_reply(words))


def parse_touch(name: str, words: Words) -> Command:
    """touch KEY EXPTIME [noreply]"""
    count(words, 2, 3)
    return Command(name, valid_keys(words[:1]), exptime=number_32(words[1], BAD_EXPTIME), noreply=wants_no_reply(words))


def parse_flush_all(name: str, words: Words) -> Command:
    """flush_all [DELAY] [noreply]"""
    count(words, 0, 2)
    if words in ([], [b"noreply"]):
        return Command(name, noreply=bool(words))
    return Command(name, exptime=number_32(words[0], BAD_EXPTIME), noreply=wants_no_reply(words))


def parse_verbosity(name: str, words: Words) -> Command:
    """verbosity LEVEL [noreply]"""
    count(words, 1, 2)
    number_64(words[0], BAD_LINE)
    return Command(name, noreply=wants_no_reply(words))


def parse_stats(name: str, words: Words) -> Command:
    """stats [GROUP]"""
    if words and words[0] not in STATISTICS:
        raise LineError(UNKNOWN)
    return Command(name, tuple(words[:1]))


def parse_plain(name: str, words: Words) -> Command:  # noqa: ARG001
    """version and quit, which take no notice of further words."""
    return Command(name)


def parse_slabs(name: str, words: Words) -> Command:
    """slabs automove 0|1|2|ratio NUMBER, which changes nothing here: there are no slabs. So `reassign` is refused."""
    if len(words) == 3 and words[0] == b"reassign":
        raise LineError(NO_REASSIGNMENT)
    if len(words) < 2 or words[0] != b"automove":
        raise LineError(UNKNOWN)
    if words[1] == b"ratio":
        if len(words) < 3 or not DECIMAL.match(words[2]):
            raise LineError(UNKNOWN)
    elif number_64(words[1], BAD_LINE) % TWO_TO_32 > 2:
        raise LineError(UNKNOWN)
    return Command(name, noreply=wants_no_reply(words))


def parse_unknown(name: str, words: Words) -> Command:
    """Anything else: an HTTP request closes the connection, as `quit` does; real commands' first letters excepted."""
    if len(name) > 1 and name[0] not in "gsacidt" and [name.encode("latin-1"), *words][-1].startswith(b"HTTP/"):
        return Command("quit")
    raise LineError(UNKNOWN)


PARSERS: dict[str, Callable[[str, Words], Command]] = {
    **dict.fromkeys(("get", "gets"), parse_get),
    **dict.fromkeys(("gat", "gats"), parse_get_and_touch),
    **dict.fromkeys(STORAGE, parse_storage),
    **dict.fromkeys(("incr", "decr"), parse_delta),
    **dict.fromkeys(("version", "quit"), parse_plain),
    "delete": parse_delete,
    "touch": parse_touch,
    "flush_all": parse_flush_all,
    "verbosity": parse_verbosity,
    "stats": parse_stats,
    "slabs": parse_slabs,
}
SILENCEABLE = STORAGE | {"delete", "incr", "decr", "touch", "flush_all", "verbosity", "slabs"}
