"""memcached's text protocol (protocol.txt of memcached 1.6): lines and data blocks to commands.

Syntax errors are answered here, in the words of the real one; everything else is the application's.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from services.messages import Command, Message, Response

MAX_KEY_BYTES = 250
MAX_VALUE_BYTES = 1024 * 1024
MAX_LINE_BYTES = 65536
MAX_32, MAX_64 = (1 << 32) - 1, (1 << 64) - 1

NUMBER = re.compile(rb"\d+\Z")
SIGNED = re.compile(rb"-?\d+\Z")

BAD_LINE = "CLIENT_ERROR bad command line format"
BAD_CHUNK = "CLIENT_ERROR bad data chunk"
BAD_DELTA = "CLIENT_ERROR invalid numeric delta argument"
BAD_EXPTIME = "CLIENT_ERROR invalid exptime argument"
TOO_LARGE = "SERVER_ERROR object too large for cache"


class LineError(Exception):
    """The line cannot be a command; the text is the reply."""


def error_reply(text: str) -> Response:
    """A reply of one line."""
    return Response(text.split(" ", 1)[0], text.encode() + b"\r\n")


class MemcacheText:
    """One connection's commands. Holds at most one line, or one data block."""

    __slots__ = ("_buffer", "_command", "_needed", "_swallow", "closing", "phase")

    read_rate = 0

    def __init__(self) -> None:
        self._buffer = b""
        self._command: Command | None = None
        self._needed = 0
        """Bytes of the data block that `_command` waits for, its CRLF included."""
        self._swallow = 0
        """Bytes of a refused data block that are still to come."""
        self.phase = "idle"
        self.closing = False

    def receive(self, data: bytes) -> list[Message | Response]:
        """The commands that `data` completes, or what is wrong with them. See `messages.Protocol`."""
        messages: list[Message | Response] = []
        if self.closing:
            return messages
        buffer = self._buffer + data if self._buffer else data
        position = 0
        while not self.closing:
            if self._swallow:
                skipped = min(self._swallow, len(buffer) - position)
                self._swallow -= skipped
                position += skipped
                if self._swallow:
                    break
            elif self._command is not None:
                if len(buffer) - position < self._needed:
                    break
                position = self._take_block(buffer, position, messages)
            else:
                end = buffer.find(b"\n", position)
                if end < 0:
                    break
                self._take_line(buffer[position:end].removesuffix(b"\r"), messages)
                position = end + 1
        self._buffer = buffer[position:]
        if self._command is None and not self._swallow and len(self._buffer) > MAX_LINE_BYTES:
            self._refuse_line(messages)
        self.phase = "body" if self._command or self._swallow else "head" if self._buffer else "idle"
        return messages

    def encode(self, message: Message | None, response: Response) -> bytes:
        """The reply, unless the command wanted none."""
        if isinstance(message, Command) and message.noreply:
            return b""
        return response.body

    def timed_out(self) -> Response | None:
        """The real one closes in silence."""
        return None

    def _refuse_line(self, messages: list[Message | Response]) -> None:
        # The real one allows a long line only to `get`, and closes the connection for any other.
        messages.append(error_reply("CLIENT_ERROR line too long"))
        self._buffer = b""
        self.closing = True

    def _take_line(self, line: bytes, messages: list[Message | Response]) -> None:
        words = line.split()
        name = words[0].decode("ascii", "replace") if words else ""
        parse = PARSERS.get(name)
        if len(line) > MAX_LINE_BYTES:
            self._refuse_line(messages)
            return
        if parse is None:
            messages.append(error_reply("ERROR"))
            return
        try:
            command = parse(name, words[1:])
        except LineError as error:
            if name in STORAGE and len(words) > 4 and NUMBER.match(words[4]) and str(error) == TOO_LARGE:
                self._swallow = int(words[4]) + 2
            messages.append(error_reply(str(error)))
            return
        if name == "quit":
            self.closing = True
        elif name in STORAGE:
            self._command = command
            self._needed = int(words[4]) + 2
        else:
            messages.append(command)

    def _take_block(self, buffer: bytes, position: int, messages: list[Message | Response]) -> int:
        """The data block of a storage command; where the buffer goes on after it."""
        command, self._command = self._command, None
        assert command is not None
        end = position + self._needed - 2
        if buffer[end : end + 2] == b"\r\n":
            command.value = buffer[position:end]
            messages.append(command)
            return end + 2
        messages.append(error_reply(BAD_CHUNK))
        # The real one skips to the end of the line and goes on from there.
        newline = buffer.find(b"\n", end)
        return newline + 1 if newline >= 0 else len(buffer)


# One parser a form of line.

Words = list[bytes]


def number(word: bytes, limit: int, error: str) -> int:
    """An unsigned number up to `limit`. Raises LineError with the text `error`."""
    if not NUMBER.match(word) or int(word) > limit:
        raise LineError(error)
    return int(word)


def seconds(word: bytes, error: str) -> int:
    """An expiry time, which may be negative."""
    if not SIGNED.match(word) or abs(int(word)) > MAX_32 >> 1:
        raise LineError(error)
    return int(word)


def valid_keys(words: Words) -> tuple[bytes, ...]:
    """The words, if each may be a key."""
    if not words:
        raise LineError("ERROR")
    if any(len(word) > MAX_KEY_BYTES for word in words):
        raise LineError(BAD_LINE)
    return tuple(words)


def wants_no_reply(words: Words) -> bool:
    """The last word says so."""
    return bool(words) and words[-1] == b"noreply"


def parse_get(name: str, words: Words) -> Command:
    """get|gets KEY+"""
    return Command(name, valid_keys(words))


def parse_storage(name: str, words: Words) -> Command:
    """set|add|replace|append|prepend KEY FLAGS EXPTIME BYTES [noreply], cas with a token before noreply"""
    expected = 5 if name == "cas" else 4
    if not expected <= len(words) <= expected + 1:
        raise LineError("ERROR")
    (key,) = valid_keys(words[:1])
    flags = number(words[1], MAX_32, BAD_LINE)
    exptime = seconds(words[2], BAD_LINE)
    size = number(words[3], MAX_32 >> 1, BAD_LINE)
    cas = number(words[4], MAX_64, BAD_LINE) if name == "cas" else 0
    if size > MAX_VALUE_BYTES:
        raise LineError(TOO_LARGE)
    return Command(name, (key,), b"", flags, exptime, cas, noreply=wants_no_reply(words[expected:]))


def parse_delete(name: str, words: Words) -> Command:
    """delete KEY [0] [noreply]"""
    if not 1 <= len(words) <= 3:
        raise LineError("ERROR")
    keys = valid_keys(words[:1])
    if len(words) > 1 and words[1] not in (b"0", b"noreply"):
        raise LineError(f"{BAD_LINE}.  Usage: delete <key> [noreply]")
    return Command(name, keys, noreply=wants_no_reply(words[1:]))


def parse_delta(name: str, words: Words) -> Command:
    """incr|decr KEY DELTA [noreply]"""
    if not 2 <= len(words) <= 3:
        raise LineError("ERROR")
    return Command(
        name, valid_keys(words[:1]), delta=number(words[1], MAX_64, BAD_DELTA), noreply=wants_no_reply(words[2:])
    )


def parse_touch(name: str, words: Words) -> Command:
    """touch KEY EXPTIME [noreply]"""
    if not 2 <= len(words) <= 3:
        raise LineError("ERROR")
    return Command(
        name, valid_keys(words[:1]), exptime=seconds(words[1], BAD_EXPTIME), noreply=wants_no_reply(words[2:])
    )


def parse_get_and_touch(name: str, words: Words) -> Command:
    """gat|gats EXPTIME KEY+"""
    if len(words) < 2:
        raise LineError("ERROR")
    return Command(name, valid_keys(words[1:]), exptime=seconds(words[0], BAD_EXPTIME))


def parse_flush_all(name: str, words: Words) -> Command:
    """flush_all [DELAY] [noreply]"""
    delay = [word for word in words if word != b"noreply"]
    exptime = seconds(delay[0], BAD_LINE) if delay else 0
    return Command(name, exptime=exptime, noreply=wants_no_reply(words))


def parse_verbosity(name: str, words: Words) -> Command:
    """verbosity LEVEL [noreply]"""
    if not words:
        raise LineError("ERROR")
    return Command(name, noreply=wants_no_reply(words))


def parse_plain(name: str, words: Words) -> Command:
    """version, stats [GROUP], quit"""
    return Command(name, tuple(words))


STORAGE = frozenset({"set", "add", "replace", "append", "prepend", "cas"})
PARSERS: dict[str, Callable[[str, Words], Command]] = {
    **dict.fromkeys(("get", "gets"), parse_get),
    **dict.fromkeys(STORAGE, parse_storage),
    **dict.fromkeys(("incr", "decr"), parse_delta),
    **dict.fromkeys(("gat", "gats"), parse_get_and_touch),
    **dict.fromkeys(("version", "stats", "quit"), parse_plain),
    "delete": parse_delete,
    "touch": parse_touch,
    "flush_all": parse_flush_all,
    "verbosity": parse_verbosity,
}
