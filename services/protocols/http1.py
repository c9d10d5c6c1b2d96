"""HTTP/1.1, parsed by httptools (Node's llhttp): bytes to requests, responses to bytes.

What cannot be parsed, or is larger than the bounds below, is refused with the status that RFC 9110, 9112
and RFC 6585 give for it, and nothing more is read: after a broken message nobody can tell where the next
one begins. `Upgrade` is ignored, as RFC 9110 § 7.8 allows. Trailers are read and dropped.

A request with neither Content-Length nor Transfer-Encoding has no body (RFC 9112 § 6.3), so
`curl -X POST` works. Only one that expects `100 Continue`, and so announces a body, is refused with 411
here; a resource that cannot do without a body asks for its length itself: that is the application's to know.

An answer to HEAD has GET's Content-Length and no body: `encode` leaves the body out and sets the
response's `filler` to 0, so the connection need not know.

What a loop has parsed before it does not parse again: see `known_heads`.

A connection between two requests holds no parser: it borrows one of its loop's when bytes arrive, and
gives it back when a request is complete. In the usual case, a request that arrives in one piece, all
connections of a loop use the same one. Measured with 20,000 idle connections: 80 bytes each, and 1,117
where each has a parser of its own (with the bound methods that httptools keeps); equally fast.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import NoReturn

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser

from services.messages import Message, Request, Response
from services.protocols.known_heads import METHODS, KnownHeads

MAX_TARGET_BYTES = 8 * 1024
MAX_HEAD_BYTES = 32 * 1024
MAX_FIELDS = 100
MAX_BODY_BYTES = 1024 * 1024
PIECE_BYTES = 16 * 1024
"""llhttp does not say where in its input a request began, so it is fed at most this much at a time: what
an unfinished head holds is known that exactly, and never more than MAX_HEAD_BYTES + 2 PIECE_BYTES."""
MAX_SPARE_PARSERS = 64

SinkRate = Callable[[Request], "int | None"]

METHOD_LIKE = re.compile(rb"[A-Z]+(?= (?:[/*]|https?:))")
"""In bytes that are not HTTP. Cut short, a method that does not exist cannot be told from any word: 400."""
HOST = re.compile(rb"[-\w.~!$&'()*+,;=%:\[\]]*")
"""The characters of RFC 3986's host and port."""
STATUS_LINES = {str(status.value): f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
STATUS_LINES["413"] = b"HTTP/1.1 413 Content Too Large\r\n"  # RFC 9110's names; Python before 3.13 has older ones
STATUS_LINES["414"] = b"HTTP/1.1 414 URI Too Long\r\n"
STATUS_LINES["422"] = b"HTTP/1.1 422 Unprocessable Content\r\n"
BODILESS = frozenset({"204", "304"})
CONTINUE = Response("100")


class CommonHead:
    """What every response of one loop carries: who answers, and the date.

    It also keeps the loop's spare parsers, and what they have parsed. Used by that loop's thread only.
    """

    def __init__(self, model: bytes, worker: bytes) -> None:
        self.worker = worker
        self.spare: list[RequestParser] = []
        self.known = KnownHeads()
        self._model = model
        self.prefixes: dict[tuple[str, bytes], bytes] = {}
        """By code and worker: what `make_prefix` made since the last `refresh`."""
        self._date = b""
        self.refresh(0.0)

    def refresh(self, epoch_seconds: float) -> None:
        """Set the date; called by the loop once a second."""
        self._date = formatdate(epoch_seconds, usegmt=True).encode()
        self.prefixes.clear()
        self.known.make_room()

    def make_prefix(self, code: str, worker: bytes) -> bytes:
        """Status line and common fields, kept until the date changes: a second's responses share a few."""
        prefix = b"%bX-Model: %b\r\nX-Worker: %b\r\nDate: %b\r\n" % (
            STATUS_LINES[code], self._model, worker or self.worker, self._date,
        )  # fmt: skip
        self.prefixes[code, worker] = prefix
        return prefix


class Http1:
    """One connection's HTTP. What it holds is bounded by one head, one body and what `receive` returned last."""

    __slots__ = ("_common", "_parser", "_sink_rate", "closing", "phase", "read_rate")

    def __init__(self, common: CommonHead, sink_rate: SinkRate) -> None:
        self._common = common
        self._sink_rate = sink_rate
        self._parser: RequestParser | None = None
        """The borrowed parser, while a request is incomplete."""
        self.phase = "idle"
        self.closing = False
        self.read_rate = 0

    def receive(self, data: bytes) -> list[Message | Response]:
        """The requests that `data` completes, `100 Continue`, or a refusal. See `messages.Protocol`."""
        if self.closing:
            return []
        if self._parser is not None:
            return self._parse(self._parser, data)
        known = self._common.known
        request = known.requests.get(data) or known.recognise(data)
        if request is not None:
            return [request]
        messages = self._parse(self._borrow(), data)
        if self._parser is None:  # nothing more was begun
            known.learn(data, messages)
        return messages

    def _borrow(self) -> RequestParser:
        spare = self._common.spare
        parser = spare.pop() if spare else RequestParser()
        parser.sink_rate = self._sink_rate
        return parser

    def _parse(self, parser: RequestParser, data: bytes) -> list[Message | Response]:
        messages = parser.receive(data)
        if parser.closing or parser.phase != "idle":
            self._leave(parser)
            return messages
        if len(self._common.spare) < MAX_SPARE_PARSERS:
            self._common.spare.append(parser)
        if self._parser is not None:
            self._leave(None)
        return messages

    def _leave(self, parser: RequestParser | None) -> None:
        """Go on with `parser` when more arrives; without one if it is done or cannot go on."""
        if parser is not None and parser.closing:
            self.closing = True
            parser = None
        self._parser = parser
        self.phase = parser.phase if parser else "idle"
        self.read_rate = parser.read_rate if parser else 0

    def encode(self, message: Message | None, response: Response) -> bytes:
        """The response's head and body. Clears `filler` where the answer must have no body."""
        if not isinstance(message, Request):
            return self._encode_own(response)
        code, headers, body, common = response.code, response.headers, response.body, self._common
        prefix = common.prefixes.get((code, response.worker)) or common.make_prefix(code, response.worker)
        size = len(body) + response.filler
        if not message.keep_alive:
            self.closing = True
            headers += b"Connection: close\r\n"
        elif not message.http_minor:
            headers += b"Connection: keep-alive\r\n"
        if code in BODILESS:
            response.filler = 0
            return b"%b%b\r\n" % (prefix, headers)
        if message.method == "HEAD":
            response.filler = 0
            body = b""
        return b"%bContent-Type: %b\r\nContent-Length: %d\r\n%b\r\n%b" % (
            prefix, response.content_type, size, headers, body,
        )  # fmt: skip

    def _encode_own(self, response: Response) -> bytes:
        """What the protocol itself says: to go on sending, or a refusal, after which the connection closes."""
        if response.code == "100":
            return b"HTTP/1.1 100 Continue\r\n\r\n"
        self.closing = True
        return b"%bContent-Type: %b\r\nContent-Length: %d\r\n%bConnection: close\r\n\r\n%b" % (
            self._common.make_prefix(response.code, response.worker),
            response.content_type, len(response.body), response.headers, response.body,
        )  # fmt: skip

    def timed_out(self) -> Response | None:
        """408 to a peer that is slow with a request; nothing to one that has sent none."""
        if self.phase == "idle":
            return None
        self._parser = None
        self.phase = "idle"
        self.closing = True
        self.read_rate = 0
        return Response("408", b"the request did not come in time\n")


class RefusedError(Exception):
    """Raised inside a callback to stop llhttp; carries the answer."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.code)
        self.response = response


class RequestParser:
    """llhttp, and the request it is reading."""

    __slots__ = (
        "_body", "_body_size", "_fed", "_headers", "_llhttp", "_messages", "_piece_size", "_repeated", "_request",
        "_target", "_upgrade", "closing", "phase", "read_rate", "sink_rate",
    )  # fmt: skip

    sink_rate: SinkRate
    _body: bytearray | None
    _request: Request

    def __init__(self) -> None:
        self._llhttp = HttpRequestParser(self)
        self._messages: list[Message | Response] = []
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._repeated = 0
        self._body = None
        self._body_size = 0
        self._fed = 0
        """Bytes of earlier pieces since the head began or the body last grew."""
        self._piece_size = 0
        self._upgrade = False
        """llhttp takes what follows this head for another protocol."""
        self.phase = "idle"
        self.closing = False
        self.read_rate = 0

    def receive(self, data: bytes | memoryview) -> list[Message | Response]:
        """What `data` completes. With `closing` set, this parser cannot be used again."""
        if len(data) <= PIECE_BYTES:
            self._feed(data)
        else:
            view = memoryview(data)
            for start in range(0, len(view), PIECE_BYTES):
                self._feed(view[start : start + PIECE_BYTES])
                if self.closing:
                    break
        messages, self._messages = self._messages, []
        return messages

    def _feed(self, piece: bytes | memoryview) -> None:
        self._piece_size = len(piece)
        unread = piece
        while unread:
            following = b""
            try:
                self._llhttp.feed_data(unread)
            except HttpParserUpgrade as upgrade:
                following = self._head_without_upgrade() + bytes(unread[upgrade.args[0] :])
                self._llhttp = HttpRequestParser(self)
                self._upgrade = False
            except HttpParserCallbackError as error:
                self._refuse_as_told(error)
            except HttpParserError as error:
                self._refuse_unparsable(str(error), bytes(unread))
            unread = following
        if self.phase != "idle":
            self._bound_unfinished()

    # What llhttp calls, in this order.

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self.phase = "head"
        self._target = b""
        self._headers = {}

    def on_url(self, piece: bytes) -> None:
        """The target, or a piece of it."""
        self._target += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field, without its line's end."""
        name = name.lower()
        headers = self._headers
        if name in headers:
            self._join(name, value.rstrip())
        else:
            headers[name] = value.rstrip()  # llhttp leaves trailing blanks on

    def on_headers_complete(self) -> None:
        """The head is whole: decide whether and how to read the body."""
        llhttp, headers = self._llhttp, self._headers
        keep_alive = llhttp.should_keep_alive()
        # Kept open without having asked for it: it must be 1.1. (Asking for the version costs 0.5 µs.)
        asked_for = b"connection" in headers or b"proxy-connection" in headers
        minor = 1 if keep_alive and not asked_for else self._minor_version()
        method = METHODS.get(llhttp.get_method())
        if method is None:
            refuse("501", "unknown method")
        self._request = request = Request(method, self._target, headers, b"", 0, keep_alive, minor)
        if minor and b"host" not in headers:
            refuse("400", "HTTP/1.1 needs a Host field")
        if not HOST.fullmatch(headers.get(b"host", b"")):
            refuse("400", "the Host field is not a host")
        if self._fed + self._piece_size > MAX_TARGET_BYTES or len(headers) + self._repeated > MAX_FIELDS:
            self._bound_head()
        if b"upgrade" in headers and llhttp.should_upgrade():
            self._upgrade = True
            return
        self.phase = "body"
        if b"content-length" in headers or b"transfer-encoding" in headers:
            self._expect_body(request)
        elif b"expect" in headers:
            check_expectation(request)
            refuse("411", "a body was announced without its length")

    def on_body(self, piece: bytes) -> None:
        """A piece of the body."""
        self._fed = 0
        self._body_size += len(piece)
        if self._body is not None:
            if self._body_size > MAX_BODY_BYTES:
                refuse("413", f"a body may have {MAX_BODY_BYTES} bytes")
            self._body += piece

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._upgrade:
            return
        request = self._request
        del self._request
        if self._body_size:
            request.body_size = self._body_size
            request.body = bytes(self._body or b"")
            self._body_size = 0
        self._body = None
        if not request.keep_alive:
            self.closing = True
        self._messages.append(request)
        self.phase = "idle"
        self.read_rate = self._fed = self._repeated = 0

    # Head and body.

    def _minor_version(self) -> int:
        version = self._llhttp.get_http_version()
        if version not in ("1.1", "1.0"):
            refuse("505", "this server speaks HTTP/1.1")
        return 1 if version == "1.1" else 0

    def _join(self, name: bytes, value: bytes) -> None:
        """A field that was there before: one list, as RFC 9110 § 5.2 has it, but for Host, which must be one."""
        if name == b"host":
            refuse("400", "two Host fields")
        self._repeated += 1
        if self._repeated > MAX_FIELDS:  # joining thousands would cost quadratic time
            refuse("431", f"more than {MAX_FIELDS} header fields")
        self._headers[name] += b", " + value

    def _expect_body(self, request: Request) -> None:
        headers = request.headers
        if b"transfer-encoding" in headers:
            if request.http_minor == 0:
                refuse("400", "HTTP/1.0 has no Transfer-Encoding")
            if headers[b"transfer-encoding"].strip().lower() != b"chunked":
                refuse("501", "the only transfer coding understood is chunked")
        # llhttp takes any number of leading zeros, int() no more than 4,300 digits.
        length = int(headers.get(b"content-length", b"").lstrip(b"0") or b"0")
        rate = self.sink_rate(request)
        if rate is None:
            if length > MAX_BODY_BYTES:
                refuse("413", f"a body may have {MAX_BODY_BYTES} bytes")
            self._body = bytearray()
        else:
            self.read_rate = rate
        if b"expect" in headers and check_expectation(request) and (length or b"transfer-encoding" in headers):
            self._messages.append(CONTINUE)
        self._headers = {}  # trailers go here: they may not pass for header fields

    # Bounds and refusals.

    def _bound_head(self) -> None:
        if len(self._headers) + self._repeated > MAX_FIELDS:
            refuse("431", f"more than {MAX_FIELDS} header fields")
        if len(self._target) > MAX_TARGET_BYTES:
            refuse("414", f"a target may have {MAX_TARGET_BYTES} bytes")
        fields = sum(len(name) + len(value) + 4 for name, value in self._headers.items())
        if len(self._target) + fields > MAX_HEAD_BYTES:
            refuse("431", f"a head may have {MAX_HEAD_BYTES} bytes")

    def _bound_unfinished(self) -> None:
        """Bound what llhttp holds of an unfinished field, which it does not show; of trailers too."""
        self._fed += self._piece_size
        if self.phase == "head" and len(self._target) > MAX_TARGET_BYTES:
            self._refuse("414", f"a target may have {MAX_TARGET_BYTES} bytes")
        elif self._fed > MAX_HEAD_BYTES + PIECE_BYTES:
            self._refuse("431", f"a head may have {MAX_HEAD_BYTES} bytes")

    def _head_without_upgrade(self) -> bytes:
        """What to tell a new llhttp when the old one takes what follows this head for another protocol.

        The old one has not looked at the body, so the new one needs the head to find its end.
        """
        request = self._request
        fields = b"".join(b"%b: %b\r\n" % field for field in request.headers.items() if field[0] != b"upgrade")
        return b"%b %b HTTP/1.%d\r\n%b\r\n" % (request.method.encode(), request.target, request.http_minor, fields)

    def _refuse_as_told(self, error: HttpParserCallbackError) -> None:
        cause = error.__context__
        if not isinstance(cause, RefusedError):
            raise error
        self._answer_refusal(cause.response)

    def _refuse_unparsable(self, error: str, piece: bytes) -> None:
        if self.closing:  # it was the last request, and what follows it is not read
            return
        if "HTTP version" in error or "PRI" in error:
            self._refuse("505", "this server speaks HTTP/1.1")
        elif "overflow" in error:
            self._refuse("413", f"a body may have {MAX_BODY_BYTES} bytes")
        elif "Invalid method" in error and not METHODS.keys() >= set(METHOD_LIKE.findall(piece)):
            self._refuse("501", "unknown method")
        else:
            self._refuse("400", f"not HTTP: {error}")

    def _refuse(self, code: str, why: str) -> None:
        self._answer_refusal(Response(code, f"{why}\n".encode()))

    def _answer_refusal(self, response: Response) -> None:
        self._messages.append(response)
        self.closing = True
        self.phase = "idle"


def check_expectation(request: Request) -> bool:
    """Whether to answer `100 Continue`; HTTP/1.0 does not know it. Refuses any other expectation."""
    if request.headers[b"expect"].strip().lower() != b"100-continue":
        refuse("417", "the only expectation met is 100-continue")
    return request.http_minor == 1


def refuse(code: str, why: str) -> NoReturn:
    """Stop llhttp and answer so."""
    raise RefusedError(Response(code, f"{why}\n".encode()))
