"""memcached's text protocol (protocol.txt of memcached 1.6): lines and data blocks to commands.

Errors of form are reported here, in the words of the real one, with which the tests compare them byte for
byte; everything else is the application's. Followed too where protocol.txt says otherwise: words are
parted by blanks only, so that a key may hold a tab; a line ends for it at a NUL; numbers are read as C's
`strtol` reads them and cut to 32 bits; `noreply` silences most errors, after which a client that pipelines
still knows which reply is whose; a line that ends in HTTP's version closes the connection in silence.

What differs, on purpose: the real one takes values up to a little less than 1 MiB (an item's header
counts); it closes in silence on an unfinished line of more than 2 KiB, `get` and `gets` apart, where here any
other line may have MAX_LINE_BYTES, and a longer one gets an error before the connection closes; when it refuses
a `get`, it forgets the replies to commands that came before it in the same packet; it gathers the whole reply to
a `get` first, so that a key that is too long spoils all of it, where a line that comes in pieces of more than
2 KiB gets the values of the keys before that one, and then the error in place of END. Commands that manage the
real one (`lru`, `watch`, `stats detail`, ...) are unknown here.
"""

from __future__ import annotations

from services.messages import MAX_VALUE_BYTES, Command, Message, Messages, Response
from services.protocols.memcache_gets import BATCH_KEYS, LongGet, batches, begin_long_get, begins_long_get
from services.protocols.memcache_lines import (
    BAD_LINE,
    GETS,
    PARSERS,
    SILENCEABLE,
    STORAGE,
    UNKNOWN,
    LineError,
    Words,
    error_reply,
    number_32,
    parse_unknown,
)
from services.protocols.memcache_meta import META_PARSERS, RefusedBlockError

MAX_LINE_BYTES = 64 * 1024

ALL_PARSERS = PARSERS | META_PARSERS
SIZE_AT = {**dict.fromkeys(STORAGE, 4), "ms": 2}
"""Of each command with a data block, the word that tells its size."""

BAD_CHUNK = "CLIENT_ERROR bad data chunk"
LONG_LINE = "CLIENT_ERROR line too long"
TOO_LARGE = "SERVER_ERROR object too large for cache"


class MemcacheText:
    """One connection's commands. Holds at most one line or one data block, and the read that it came with."""

    __slots__ = (
        "_code",
        "_command",
        "_get",
        "_needed",
        "_refusal",
        "_searched",
        "_swallow",
        "_unread",
        "closing",
        "phase",
    )

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
        self._get: LongGet | None = None
        """A long get whose end has not come."""
        self._code = ""
        """Code of what has been sent of the reply to a get in batches; empty between two replies."""
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
            elif self._get is not None:
                taken = self._take_piece(self._get, data, position, messages)
            else:
                taken = self._take_line(data, position, messages)
            if not taken:
                self._unread = bytearray(data[position:])
                self._searched = len(self._unread)
                break
            position += taken
        in_block = self._command is not None or self._swallow
        in_line = self._unread or self._get is not None
        self.phase = "body" if in_block else "head" if in_line else "idle"
        return self._bound_line(messages)

    def encode(self, message: Message | None, response: Response) -> bytes:
        """The reply, unless the command wanted none."""
        if isinstance(message, Command):
            if message.noreply:
                return b""
            if message.partial or self._code:
                return self._encode_batch(response, last=not message.partial)
        elif self._code:
            return self._encode_batch(response, last=True)
        return response.body

    def _encode_batch(self, response: Response, *, last: bool) -> bytes:
        """Encode one part of a reply. The last counts for all, as VALUE if any had values; nothing follows an error.

        Where a worker executed it (ramcloud), it has been counted by then: by the last part's own code.
        """
        before = self._code
        if last:
            self._code = ""
            if (before, response.code) == ("VALUE", "END"):
                response.code = before
        elif before != "SERVER_ERROR":
            self._code = response.code or ("VALUE" if response.body else before or "END")
        return b"" if before == "SERVER_ERROR" else response.body

    def timed_out(self) -> Response | None:
        """The real one closes in silence."""
        return None

    def close(self) -> None:
        """Do nothing: what is incomplete goes with the connection."""

    def _can_go_on(self, unread: bytearray) -> bool:
        if self._command is not None:
            return len(unread) >= self._needed
        found = unread.find(b"\n", self._searched) >= 0
        self._searched = len(unread)
        return found or begins_long_get(unread)

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
            return self._begin_get(data[position:], messages)
        line = data[position:end].removesuffix(b"\r").partition(b"\0")[0]
        words = [word for word in line.split(b" ") if word]
        if end - position > MAX_LINE_BYTES and not GETS.intersection(words[:1]):
            self._refuse_line(messages)
        else:
            self._obey(words, messages)
        return end + 1 - position

    def _begin_get(self, unread: bytes, messages: Messages) -> int:
        if not begins_long_get(unread):
            return 0
        self._get, first = begin_long_get(unread)
        messages += first
        return len(unread)

    def _take_piece(self, get: LongGet, data: bytes, position: int, messages: Messages) -> int:
        end = data.find(b"\n", position)
        if end < 0:
            messages += get.receive(data[position:])
            return len(data) - position
        messages += get.receive(data[position:end])
        messages += get.end()
        self._get = None
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
            command = ALL_PARSERS.get(name, parse_unknown)(name, words[1:])
        except LineError as error:
            self._swallow = error.size if isinstance(error, RefusedBlockError) else 0
            text = str(error)
            if text == UNKNOWN or name not in SILENCEABLE or words[-1] != b"noreply":
                messages.append(error_reply(text))
            return
        if name in SIZE_AT:
            self._expect_block(command, number_32(words[SIZE_AT[name]], BAD_LINE), messages)
            return
        self.closing = command.name == "quit"
        if len(command.keys) > BATCH_KEYS:
            messages += batches(command)
        else:
            messages.append(command)

    def _expect_block(self, command: Command, size: int, messages: Messages) -> None:
        if size <= MAX_VALUE_BYTES:
            self._command = command
            self._needed = size + 2
            return
        self._swallow = size + 2
        self._refusal = None if command.noreply else error_reply(TOO_LARGE)
        if command.name in ("set", "ms"):
            # As the real one does: a `set` that fails leaves no old value behind, which would be stale.
            messages.append(Command("delete", command.keys, noreply=True))
