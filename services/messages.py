"""What travels between a protocol and the application: requests one way, responses the other.

Protocols make requests out of bytes, applications answer them, and neither knows of the other.
Everything here is plain data that can be pickled, for a request may be executed in another process.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol as Interface

TEXT = b"text/plain; charset=utf-8"
MAX_KEY_BYTES = 250
"""memcached's limit; HTTP keeps to it, because both see the same data."""
MAX_VALUE_BYTES = 1024 * 1024


@dataclass(slots=True)
class Request:
    """One HTTP request, whole: method in upper case, header names in lower case.

    `body_size` is what the client sent; it is more than `len(body)` only where the body was
    read and thrown away (`/sink`).
    """

    method: str
    target: bytes
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    body_size: int = 0
    keep_alive: bool = True
    http_minor: int = 1


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
    """An answer. `code` is HTTP's status ("200") or the first word of memcached's reply ("STORED").

    An empty `code` is not counted: more of the same reply follows (`Command.partial`).

    `headers` are extra header lines, each ending in CRLF. `filler` bytes follow `body`; they are
    written in pieces and never held in memory (`/stream`). `worker` is who executed the request,
    empty for whoever writes it.
    """

    code: str
    body: bytes = b""
    content_type: bytes = TEXT
    headers: bytes = b""
    filler: int = 0
    worker: bytes = b""


Message = Request | Command
"""What an application can be asked."""


class Handler(Interface):
    """An application: answers one message. Must not raise for anything that a peer can send."""

    def __call__(self, message: Message, /) -> Response:
        """The answer."""


class Protocol(Interface):
    """Sans-I/O: bytes in, messages out; response in, bytes out. No socket, clock or thread inside."""

    phase: str
    """What is being read: "idle" (nothing begun), "head" or "body". Timeouts depend on it."""
    closing: bool
    """Nothing more will be read: answer what was received, then close."""
    read_rate: int
    """Bytes a second at which the present body may be read; 0 for no limit (`/sink?rate=`)."""

    def receive(self, data: bytes) -> list[Message | Response]:
        """The messages that `data` completes, in order.

        A `Response` among them is the protocol's own: `100 Continue`, or the refusal of what cannot
        be parsed (`closing` is then true). Never raises for anything that a peer can send, and never
        holds more than the documented bounds.
        """

    def encode(self, message: Message | None, response: Response) -> bytes:
        """The bytes of `response` to `message` (None for the protocol's own), without the filler."""

    def timed_out(self) -> Response | None:
        """What to tell a peer that let the present phase run out of time; None to close in silence."""
