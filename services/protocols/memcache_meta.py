"""Meta commands of memcached 1.6 (`mg ms md ma mn me`): a line's words to a command, or to the real one's error.

A command's flags, each one letter with an argument behind it or none, are checked here against one table and
travel as they are, in `Command.meta`; the application reads them. A key that is sent in base64 (flag b) is decoded
here. Errors are worded, and errors of `md` and `ma` lumped together, as the real one does it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable

from services.messages import MAX_KEY_BYTES, Command
from services.protocols.memcache_lines import (
    BAD_LINE,
    MAX_BLOCK_BYTES,
    UNKNOWN,
    LineError,
    Words,
    number_32,
    number_64,
    valid_keys,
)

MAX_WORDS = 18
"""Words of a line behind the command's name."""
MAX_OPAQUE_BYTES = 32

BAD_TOKEN = "CLIENT_ERROR bad token in command line format"
INVALID_OR_DUPLICATE = "CLIENT_ERROR invalid or duplicate flag"
LONG_FLAGS = "CLIENT_ERROR options flags too long"
LONG_OPAQUE = "CLIENT_ERROR opaque token too long"


class RefusedBlockError(LineError):
    """The line is refused, and a data block of `size` bytes, its CRLF included, still follows."""

    def __init__(self, text: str, size: int) -> None:
        super().__init__(text)
        self.size = size


def _any(_argument: bytes) -> None:
    """Take any argument."""


def _number_32(argument: bytes) -> None:
    number_32(argument, BAD_TOKEN)


def _number_64(error: str) -> Callable[[bytes], None]:
    def check(argument: bytes) -> None:
        number_64(argument, error)

    return check


def _mode(argument: bytes) -> None:
    if len(argument) != 1:
        raise LineError("CLIENT_ERROR incorrect length for M token")


CHECKS: dict[bytes, Callable[[bytes], None]] = {
    **{bytes([letter]): _any for letter in b"ILOPbcfhklqstuv"},
    **dict.fromkeys((b"N", b"R", b"T"), _number_32),
    b"C": _number_64(BAD_TOKEN),
    b"D": _number_64("CLIENT_ERROR invalid numeric delta value"),
    b"F": _number_64(BAD_LINE),
    b"J": _number_64("CLIENT_ERROR invalid numeric initial value"),
    b"M": _mode,
}
"""Each flag, with the check of its argument. Every command takes all, and has no use for some."""
MODES = {
    "ms": (b"E", b"A", b"P", b"R", b"S"),
    "ma": (b"I", b"+", b"D", b"-"),
}


def _check_flags(words: Words) -> None:
    """Refuse what no flag may be: an unknown or a repeated one at once, else the last that is wrong."""
    seen = set()
    wrong: LineError | None = None
    for word in words:
        flag = word[:1]
        if flag in seen or flag > b"~":
            raise LineError("CLIENT_ERROR duplicate flag")
        seen.add(flag)
        if flag not in CHECKS:
            raise LineError("CLIENT_ERROR invalid flag")
        try:
            CHECKS[flag](word[1:])
        except LineError as error:
            # F's own text is the general one, which hides no other.
            wrong = wrong if wrong and flag == b"F" else error
    if wrong:
        raise wrong


def _check_meaning(name: str, words: Words) -> None:
    """Refuse flags that are well formed, but that this command cannot follow."""
    for word in words:
        if word[:1] == b"O" and len(word) > MAX_OPAQUE_BYTES:
            raise LineError(LONG_OPAQUE)
    for word in words:
        if word[:1] == b"M" and word[1:] not in MODES.get(name, (word[1:],)):
            raise LineError(f"CLIENT_ERROR invalid mode for {name} M token")


def _decoded(key: bytes, flags: Words) -> bytes:
    if not any(word[:1] == b"b" for word in flags):
        return key
    try:
        decoded = base64.b64decode(key)
    except binascii.Error:
        decoded = b""
    if not decoded:
        raise LineError("CLIENT_ERROR error decoding key")
    return decoded


def _checked(name: str, key: bytes, flags: Words, value_words: int = 0) -> Command:
    if len(flags) + 1 + value_words > MAX_WORDS:
        raise LineError(LONG_FLAGS if name != "mg" else "CLIENT_ERROR options flags are too long")
    try:
        _check_flags(flags)
        key = _decoded(key, flags)
    except LineError as error:
        raise LineError(INVALID_OR_DUPLICATE if name in ("md", "ma") else str(error)) from None
    _check_meaning(name, flags)
    return Command(name, (key,), meta=tuple(flags))


def parse_meta(name: str, words: Words) -> Command:
    """mg|md|ma KEY FLAG*"""
    if not words:
        raise LineError(UNKNOWN)
    (key,) = valid_keys(words[:1])
    return _checked(name, key, words[1:])


def parse_meta_set(name: str, words: Words) -> Command:
    """ms KEY BYTES FLAG*"""
    if not words:
        raise LineError(UNKNOWN)
    (key,) = valid_keys(words[:1])
    if len(words) == 1:
        raise LineError(BAD_LINE)
    if len(words) > MAX_WORDS:
        raise LineError(LONG_FLAGS)
    size = number_32(words[1], BAD_LINE)
    if not 0 <= size <= MAX_BLOCK_BYTES:
        raise LineError(BAD_LINE)
    try:
        return _checked(name, key, words[2:], value_words=1)
    except LineError as error:
        raise RefusedBlockError(str(error), size + 2) from None


def parse_meta_debug(name: str, words: Words) -> Command:
    """me KEY [b]"""
    if not words or len(words[0]) > MAX_KEY_BYTES:
        raise LineError(BAD_LINE)
    flags = [b"b"] if words[1:2] == [b"b"] else []
    try:
        return Command(name, (_decoded(words[0], flags),))
    except LineError:
        raise LineError(BAD_LINE) from None


def parse_meta_no_op(name: str, words: Words) -> Command:  # noqa: ARG001
    """mn"""
    return Command(name)


META_PARSERS: dict[str, Callable[[str, Words], Command]] = {
    **dict.fromkeys(("mg", "md", "ma"), parse_meta),
    "ms": parse_meta_set,
    "me": parse_meta_debug,
    "mn": parse_meta_no_op,
}
