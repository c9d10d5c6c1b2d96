"""memcached's text protocol (protocol.txt of memcached 1.6): lines and data blocks to commands.

Errors of form are answered here, in the words of the real one, with which the tests compare it byte for
byte; everything else is the application's. Followed too where protocol.txt says otherwise: words are
parted by blanks only, so that a key may hold a tab; a line ends for it at a NUL; numbers are read as C's
`strtol` reads them and cut to 32 bits; `noreply` silences most errors, after which a client that pipelines
still knows which answer is whose.

What differs, on purpose: the real one takes values up to a little less than 1 MiB (an item's header
counts); it closes in silence on an unfinished line of more than 2 KiB, `get` apart, where here any line
may have MAX_LINE_BYTES, and a longer one is answered before the connection closes; when it refuses a
`get`, it forgets the answers to commands that came before it in the same packet; its meta commands and
those that manage the real one (`slabs`, `lru`, `watch`, `stats detail`, ...) are unknown here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

from services.messages import BodyPiece, Command, Message, Response

MAX_KEY_BYTES = 250
MAX_VALUE_BYTES = 1024 * 1024
MAX_LINE_BYTES = 64 * 1024
MAX_BLOCK_BYTES = (1 << 31) - 3
"""More than this is no size at all to the real one; up to this, a block that is too large is swallowed."""

BAD_LINE = "CLIENT_ERROR bad command line format"
BAD_DELETE = "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]"
BAD_CHUNK = "CLIENT_ERROR bad data chunk"
BAD_DELTA = "CLIENT_ERROR invalid numeric delta argument"
BAD_EXPTIME = "CLIENT_ERROR invalid exptime argument"
LONG_LINE = "CLIENT_ERROR line too long"
TOO_LARGE = "SERVER_ERROR object too large for cache"
UNKNOWN = "ERROR"

# What strtol and strtoul take: white space, a sign, digits; then the word must end or go on with white space.
NUMBER = re.compile(rb"[\t\v\f\r]*+([+-]?)0*+([0-9]{0,20}+)(?<=[0-9])(?=[\t\v\f\r]|\Z)")
TWO_TO_31, TWO_TO_32, TWO_TO_63, TWO_TO_64 = 1 << 31, 1 << 32, 1 << 63, 1 << 64

STORAGE = frozenset({"set", "add", "replace", "append", "prepend", "cas"})
STATISTICS = frozenset({b"reset", b"items", b"slabs", b"sizes", b"settings", b"conns"})

Words = list[bytes]
Messages = list[Message | BodyPiece | Response]


class MemcacheText:
    """One connection's commands. Holds at most one line or one data block, and the read that it came with."""

    __slots__ = ("_command", "_needed", "_refusal", "_searched", "_swallow", "_unread", "closing", "phase")

    def __init__(self) -> None:
        self._unread: bytearray | None = None
        """A line or data block that is not complete; None, which costs nothing, between two commands."""
        self._searched = 0
        """Bytes of `_unread` that hold no end of line."""
        self._command: Command | None = None
        """Waits for its data block."""
        self._needed = 0
        """Bytes of that data block, its CRLF included."""
        self._swallow = 0
        """Bytes of a refused data block that are still to come, after which `_refusal` is due."""
        self._refusal: Response | None = None
        self.phase = "idle"
        self.closing = False

    def receive(self, data: bytes) -> Messages:
        """The commands that `data` completes, or what is wrong with them. See `messages.Protocol`."""
        messages: Messages = []
        if self._unread is not None:
            # A bytearray, and looked at only where it grew: a large value costs the same in small pieces.
            self._unread += data
            if not self._can_go_on(self._unread):
                return self._bound_line(messages)
            data = bytes(self._unread)
            self._unread = None
        position = 0
        while position < len(data) and not self.closing:
            if self._swallow:
                taken = self._take_refused(data, position, messages)
            elif self._command is not None:
                taken = self._take_block(data, position, messages)
            else:
                taken = self._take_line(data, position, messages)
            if not taken:
                self._unread = bytearray(data[position:])
                self._searched = len(self._unread)
                break
            position += taken
        in_block = self._command is not None or self._swallow
        self.phase = "body" if in_block else "head" if self._unread else "idle"
        return self._bound_line(messages)

    def encode(self, message: Message | None, response: Response) -> bytes:
        """The reply, unless the command wanted none."""
        if isinstance(message, Command) and message.noreply:
            return b""
        return response.body

    def timed_out(self) -> Response | None:
        """The real one closes in silence."""
        return None

    def _can_go_on(self, unread: bytearray) -> bool:
        if self._command is not None:
            return len(unread) >= self._needed
        found = unread.find(b"\n", self._searched) >= 0
        self._searched = len(unread)
        return found

    def _bound_line(self, messages: Messages) -> Messages:
        if self._command is None and self._unread is not None and len(self._unread) > MAX_LINE_BYTES:
            self._refuse_line(messages)
        return messages

    def _refuse_line(self, messages: Messages) -> None:
        messages.append(error_reply(LONG_LINE))
        self._unread = None
        self.phase = "idle"
        self.closing = True

    # Each takes what it can at `position`, and says how many bytes; 0: more must come first.

    def _take_line(self, data: bytes, position: int, messages: Messages) -> int:
        end = data.find(b"\n", position)
        if end < 0:
            return 0
        if end - position > MAX_LINE_BYTES:
            self._refuse_line(messages)
        else:
            line = data[position:end].removesuffix(b"\r").partition(b"\0")[0]
            self._obey([word for word in line.split(b" ") if word], messages)
        return end + 1 - position

    def _take_block(self, data: bytes, position: int, messages: Messages) -> int:
        command = self._command
        end = position + self._needed
        if command is None or len(data) < end:
            return 0
        self._command = None
        if data[end - 2 : end] == b"\r\n":
            command.value = data[position : end - 2]
            messages.append(command)
        elif not command.noreply:
            messages.append(error_reply(BAD_CHUNK))
        return self._needed

    def _take_refused(self, data: bytes, position: int, messages: Messages) -> int:
        taken = min(self._swallow, len(data) - position)
        self._swallow -= taken
        if not self._swallow and self._refusal is not None:
            messages.append(self._refusal)
            self._refusal = None
        return taken

    # One line.

    def _obey(self, words: Words, messages: Messages) -> None:
        name = words[0].decode("latin-1") if words else ""
        try:
            command = PARSERS.get(name, parse_unknown)(name, words[1:])
        except LineError as error:
            text = str(error)
            if text == UNKNOWN or name not in SILENCEABLE or words[-1] != b"noreply":
                messages.append(error_reply(text))
            return
        if name in STORAGE:
            self._expect_block(command, number_32(words[4], BAD_LINE), messages)
            return
        self.closing = name == "quit"
        messages.append(command)

    def _expect_block(self, command: Command, size: int, messages: Messages) -> None:
        if size <= MAX_VALUE_BYTES:
            self._command = command
            self._needed = size + 2
            return
        self._swallow = size + 2
        self._refusal = None if command.noreply else error_reply(TOO_LARGE)
        if command.name == "set":
            # As the real one does: a `set` that fails leaves no old value behind, which would be stale.
            messages.append(Command("delete", command.keys, noreply=True))


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
    """An unsigned number, as the real one's `safe_strtoull` reads it: -1 is refused, -2^64 + 1 is 1."""
    match = NUMBER.match(word)
    if match is None or (number := int(match[2] or b"0")) >= TWO_TO_64:
        raise LineError(error)
    if match[1] == b"-":
        number = -number % TWO_TO_64
        if number >= TWO_TO_63:
            raise LineError(error)
    return number


def number_32(word: bytes, error: str) -> int:
    """A signed number, as the real one's `safe_strtol` reads it: a long, cut to 32 bits."""
    match = NUMBER.match(word)
    if match is None:
        raise LineError(error)
    number = int(match[1] + (match[2] or b"0"))
    if not -TWO_TO_63 <= number < TWO_TO_63:
        raise LineError(error)
    return (number + TWO_TO_31) % TWO_TO_32 - TWO_TO_31


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


def parse_unknown(name: str, words: Words) -> Command:  # noqa: ARG001
    """Always refused."""
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
}
SILENCEABLE = STORAGE | {"delete", "incr", "decr", "touch", "flush_all", "verbosity"}
