"""Requests and responses: what protocols and the application exchange.

Protocols make requests out of bytes, applications respond to them, and neither knows of the other.
Everything here is plain data that can be pickled, for a request may be executed in another process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol as Interface

MAX_KEY_BYTES = 250
"""memcached's limit; HTTP keeps to it, because both see the same data."""
MEBIBYTE = 1024 * 1024
MAX_VALUE_BYTES = MEBIBYTE
TEXT = b"text/plain; charset=utf-8"
BODILESS = frozenset({"204", "304"})
"""HTTP's codes of responses that have no body."""

Peer = tuple[str, int]
"""Address and port of a client."""


@dataclass(slots=True)
class Request:
    """One HTTP request, whole: method in upper case, header names in lower case.

    `body_size` is what the client sent; it is more than `len(body)` only where `reader` has taken the body in pieces.
    `fields` are the header fields, or the bytes of a well-formed head, of which `headers` makes
    them when somebody asks: most responses need the target alone.
    """

    method: str
    target: bytes
    fields: dict[bytes, bytes] | bytes = field(default_factory=dict)
    body: bytes = b""
    body_size: int = 0
    keep_alive: bool = True
    http_minor: int = 1
    reader: BodyReader | None = None
    peer: Peer | None = None
    """Told to an application of the user's own."""

    @property
    def headers(self) -> dict[bytes, bytes]:
        """Header fields by lower-case name; values of a name that comes twice are joined (RFC 9110, section 5.2)."""
        if isinstance(self.fields, bytes):
            self.fields = fields_of(self.fields)
        return self.fields


def fields_of(head: bytes) -> dict[bytes, bytes]:
    """Return the header fields of a well-formed head, request line and empty line included."""
    fields: dict[bytes, bytes] = {}
    for line in head.rstrip(b"\r\n").split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        add_field(fields, name, value.lstrip(b" \t"))
    return fields


def add_field(fields: dict[bytes, bytes], name: bytes, value: bytes) -> None:
    """Add one header field, whose value may end in blanks, to `fields`."""
    name, value = name.lower(), value.rstrip(b" \t")
    separator = b"; " if name == b"cookie" else b", "  # RFC 9113 § 8.2.3
    fields[name] = fields[name] + separator + value if name in fields else value


@dataclass(slots=True)
class Command:
    """One memcached command (`get`, `set`, ...), or one piece of an echo stream (`echo`).

    `meta`: the flags of a meta command (`mg`, `ms`, ...), checked.
    `partial`: a batch of the keys of a long `get`, whose other keys follow in commands of their own.
    """

    name: str
    keys: tuple[bytes, ...] = ()
    value: bytes = b""
    flags: int = 0
    exptime: int = 0
    cas: int = 0
    delta: int = 0
    noreply: bool = False
    partial: bool = False
    meta: tuple[bytes, ...] = ()


@dataclass(slots=True)
class Response:
    """A response. `code` is HTTP's status ("200") or the first word of memcached's reply ("STORED").

    An empty `code` is not counted: more of the same reply follows (`Command.partial`).

    `headers` are extra header lines, each ending in CRLF. With an empty `content_type` they are complete: they say
    themselves of which type the body is, and how long, unless that is not known (`Pieces.size`). `pieces`, where given,
    follow `body`: they are made one by one, as the client takes them, and never held together (`/stream`). `worker` is
    who executed the request, empty for whoever writes it.
    """

    code: str
    body: bytes = b""
    content_type: bytes = TEXT
    headers: bytes = b""
    pieces: Pieces | None = None
    worker: bytes = b""


Message = Request | Command
"""A request to an application."""


def make_last(message: Message) -> None:
    """Have the response say that the connection closes, where the protocol can say it."""
    if isinstance(message, Request):
        message.keep_alive = False


class Execution(Interface):
    """A request that is being executed. It can be told about its client, by the thread that gave it out only."""

    def end_of_input(self) -> None:
        """Note that the client has sent its last byte: it may be gone, or may wait for the response. Again: nothing."""

    def cancel(self) -> None:
        """Note that nobody waits for the response any more. Again, or after the response: nothing."""


class Later(Execution, Interface):
    """A handler gives it out instead of a response that comes later; or it makes a response's pieces meanwhile.

    Everything is called by the thread of the loop that executes the request, and calls back from there: never from
    inside the application, so that a callback may execute the next request.
    """

    code: str
    """Empty: it is not counted, as a part of a reply is not (`Response.code`)."""

    def then(self, callback: Callable[[Response], None]) -> None:
        """Call back, once, when the response is there."""

    def when_more(self, callback: Callable[[], None]) -> None:
        """Call back, once, when there is a next piece, or will be none."""


class Pieces(Interface):
    """A response's body in pieces. Can be pickled where it may be made in another process than it is written in."""

    @property
    def size(self) -> int | None:
        """Bytes of all pieces together; None where only the last piece shows it."""

    @property
    def later(self) -> Later | None:
        """Maker of pieces that come later: then an empty piece says that the next is not there yet, and no other does.

        None: the next piece is there whenever it is asked for.
        """

    def __iter__(self) -> Iterator[bytes | memoryview]:
        """Yield one piece after the other, none of them empty but for `later`.

        Raises `CutShortError`, and nothing else.
        """

    def close(self) -> None:
        """Make no more of them: the client has all, or is gone. Must not raise; may be called twice."""


class CutShortError(ConnectionError):
    """There will be no more pieces, and there should be: the response cannot be completed. It has been logged."""


class BodyReader(Interface):
    """Takes a request's body in pieces, as it arrives: the protocol keeps none of it."""

    most_bytes: int
    """To read at once after a pause."""
    max_bytes: int
    """Of a body: a larger one is refused with 413."""

    def take(self, piece: bytes) -> float:
        """Take a piece; return for how many seconds none is to be read after it (back-pressure)."""


@dataclass(slots=True)
class BodyPiece:
    """A part of a body that is taken in pieces, on its way to its reader; the request follows the last."""

    reader: BodyReader
    data: bytes


Messages = list[Message | BodyPiece | Response]
"""As a protocol gives them out, in order. A response among them is the protocol's own."""


class Handler(Interface):
    """An application. Must not raise for anything that a peer can send."""

    def __call__(self, message: Message, /) -> Response | Later:
        """Execute a message; return the response, or what stands for it until it comes."""


class Protocol(Interface):
    """Sans-I/O: bytes in, messages out; response in, bytes out. No socket, clock or thread inside."""

    phase: str
    """The part that is being read: "idle" (nothing begun), "head" or "body". Timeouts depend on it."""
    closing: bool
    """Nothing more will be read: respond to what was received, then close."""

    def receive(self, data: bytes) -> Messages:
        """Return the messages that `data` completes, in order.

        A `Response` among them is the protocol's own: `100 Continue`, or the refusal of what cannot
        be parsed (`closing` is then true). Never raises for anything that a peer can send, and never
        holds more than the documented bounds.
        """

    def encode(self, message: Message | None, response: Response) -> bytes:
        """Return the bytes of `response` to `message` (None for the protocol's own), without its pieces.

        Takes the pieces away where the response must have no body.
        """

    def timed_out(self) -> Response | None:
        """Return the response to a peer that let the present phase run out of time; None to close in silence."""

    def close(self) -> None:
        """Let go of a message that is incomplete: its connection closes. Called while `phase` is not "idle"."""


FindPeer = Callable[[], Peer | None]


class Choose(Interface):
    """Gives a connection its protocol object, once its first bytes are there."""

    def __call__(self, first: bytes, peer: FindPeer = ..., /) -> Protocol:
        """Return the protocol object. `peer` is called only where the application is told of its clients."""
