"""HTTP/1.1 requests out of bytes, by httptools (llhttp, the parser of Node). No socket, clock or thread.

llhttp judges every request. `RequestParser` has it report all that it finds: any request, in any pieces. Reporting is
what costs (a call of Python's for each header field), and most requests are alike in all that matters to a server: the
head comes whole, no body follows, and of the fields only Host says anything. `PlainRequests` reads those: llhttp
judges the head and reports the target only, one regular expression looks for fields that matter, and the others are
made into a dictionary when somebody asks for them. Whatever is unusual it leaves to `RequestParser`; a test holds that
both say the same of any bytes. Measured with eight fields: 2.0 µs for a plain request, 4.9 for all its fields.

What cannot be parsed, or is larger than the bounds below, is refused with the status that RFC 9110, 9112 and RFC 6585
give for it, and nothing more is read: after a broken message nobody can tell where the next one begins. `Upgrade` is
ignored, as RFC 9110 § 7.8 allows. Trailers are read and dropped.

A request with neither Content-Length nor Transfer-Encoding has no body (RFC 9112 § 6.3), so `curl -X POST` works, and
an expectation on it is met by itself. A resource that cannot do without a body asks for its length itself: that is the
application's to know.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser

from services.messages import MAX_VALUE_BYTES, BodyPiece, BodyReader, Messages, Request, Response, add_field

MAX_TARGET_BYTES = 8 * 1024
MAX_HEAD_BYTES = 32 * 1024
MAX_FIELDS = 1000
MAX_BODY_BYTES = MAX_VALUE_BYTES
MAX_PLAIN_BYTES = 2048
"""Of a plain request: too few for MAX_FIELDS."""
PIECE_BYTES = 16 * 1024
"""llhttp does not say where in its input a request began, so it is fed at most this much at a time: what
an unfinished head holds is known that exactly, and never more than MAX_HEAD_BYTES + 2 PIECE_BYTES."""

OpenBody = Callable[[Request], BodyReader | None]
"""Return who takes this request's body in pieces; None: nobody, it is to be collected. Must not raise."""

METHODS = {method.encode(): method for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE")}
METHOD_LIKE = re.compile(rb"(?<![A-Z])[A-Z]++(?= (?:[/*]|https?:))")
"""In bytes that are not HTTP. Cut short, a method that does not exist cannot be told from any word: 400.

Looked for where a word begins only, and without backtracking: else 16 KiB of letters take three seconds."""
HOST = re.compile(rb"[-\w.~!$&'()*+,;=%:\[\]]*")
"""The characters of RFC 3986's host and port."""
FIELDS_THAT_MATTER = re.compile(
    rb"\n(Host: ?[-\w.:\[\]]++|Connection: close)\r"
    rb"|\n[CcEeHhPpTtUu][OoPpRrXx][AaGgNnOoPpSs][EeNnRrTtXx](?!ection: [Kk]eep-[Aa]live\r|ade-Insecure-Requests:)"
)
"""In a head: a usual Host, `Connection: close`, and nothing for any other field by which the message or the connection
could differ: another Host, Content-Length, Transfer-Encoding, Expect, Upgrade, Connection, Proxy-Connection. By the
first four letters, since sets are twice as fast as words; others that begin so (Content-Type) cost time only."""
CONTINUE = Response("100")


class PlainRequests:
    """Reads requests of the usual form. Used by one loop's thread only, for all of its connections."""

    def __init__(self) -> None:
        self._targets: list[bytes] = []
        self.on_url = self._targets.append
        """Called by llhttp with each target."""
        self._llhttp = HttpRequestParser(self)
        # Else it would read nothing behind `Connection: close`, which is one connection's affair and not the others'.
        self._llhttp.set_dangerous_leniencies(lenient_keep_alive=True)

    def read(self, data: bytes) -> Request | None:
        """Return the request that `data` is, no more and no less; None where it is anything unusual."""
        if len(data) > MAX_PLAIN_BYTES or data[-4:] != b"\r\n\r\n":
            return None
        matter = FIELDS_THAT_MATTER.findall(data)
        keep_alive = len(matter) == 1
        if keep_alive:
            if matter[0][:1] != b"H":
                return None
        elif len(matter) != 2 or {matter[0][:1], matter[1][:1]} != {b"H", b"C"}:
            return None
        llhttp, targets = self._llhttp, self._targets
        try:
            llhttp.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            targets.clear()
        # No field announces a body, and there is one target: so the empty line at the end is the end of one head.
        if len(targets) == 1:
            target = targets.pop()
            method = METHODS.get(llhttp.get_method())
            if method is not None and target[:1] == b"/":
                end = len(method) + 1 + len(target)
                if data[end : end + 11] == b" HTTP/1.1\r\n":
                    return Request(method, target, data, b"", 0, keep_alive)
        self.__init__()  # type: ignore[misc]  # llhttp may have ended with it, or be in the middle
        return None


class RefusedError(Exception):
    """Raised inside a callback to stop llhttp; carries the response."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(code)
        self.response = Response(code, f"{why}\n".encode())


def too_large(most_bytes: int) -> RefusedError:
    """Return the refusal of a body with more bytes than these."""
    return RefusedError("413", f"a body may have {most_bytes} bytes")


class RequestParser:
    """Reads any request, in any pieces: llhttp, and the request that it is reading."""

    __slots__ = (
        "_body", "_body_size", "_fed", "_headers", "_llhttp", "_messages", "_most_bytes", "_piece_size", "_reader",
        "_repeated", "_request", "_target", "_upgrade", "closing", "is_head", "open_body", "phase",
    )  # fmt: skip

    open_body: OpenBody
    _body: bytearray
    _most_bytes: int
    _request: Request

    def __init__(self) -> None:
        self._make_llhttp()
        self._messages: Messages = []
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._repeated = 0
        self._reader: BodyReader | None = None
        self._body_size = 0
        self._fed = 0
        """Bytes of earlier pieces since the head began or the body last grew."""
        self._piece_size = 0
        self.phase = "idle"
        self.closing = False
        self.is_head = False
        """The method of the request that was refused is HEAD: the response has no body."""

    def _make_llhttp(self) -> None:
        self._llhttp = HttpRequestParser(self)
        # HTTP/1.2, should it ever come, is to be served as 1.1 (RFC 9110 § 2.5); other major versions we refuse.
        self._llhttp.set_dangerous_leniencies(lenient_version=True)
        self._upgrade = False
        """llhttp takes what follows this head for another protocol."""

    def close(self) -> None:
        """End for good, with all that an unfinished request holds.

        llhttp holds our bound methods, and we hold llhttp. Left so, a parser stays until the garbage collector finds
        it, and that may take ten thousands of others: measured, 6 MiB of them under a load of malformed requests.
        """
        del self._llhttp

    def receive(self, data: bytes | memoryview) -> Messages:
        """Return what `data` completes. With `closing` set, this parser cannot be used again."""
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
                self._make_llhttp()
            except HttpParserCallbackError as error:
                self._refuse_as_raised(error)
            except HttpParserError as error:
                self._refuse_unparsable(str(error), bytes(unread))
            unread = following
        if self.phase != "idle":
            self._bound_unfinished()

    # Called by llhttp, in this order.

    def on_message_begin(self) -> None:
        """Note the first byte of a request."""
        self.phase = "head"
        self._target = b""
        self._headers = {}

    def on_url(self, piece: bytes) -> None:
        """Take the target, or a piece of it."""
        self._target += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one field, without its line's end."""
        if name.lower() in self._headers:
            self._bound_repeated(name.lower())
        add_field(self._headers, name, value)

    def on_headers_complete(self) -> None:
        """Decide whether and how to read the body: the head is whole."""
        llhttp, headers = self._llhttp, self._headers
        if self._fed + self._piece_size > MAX_TARGET_BYTES or len(headers) + self._repeated > MAX_FIELDS:
            self._bound_head()
        method = METHODS.get(llhttp.get_method())
        if method is None:
            raise RefusedError("501", "unknown method")
        minor = self._minor_version()
        self._request = request = Request(method, self._target, headers, b"", 0, llhttp.should_keep_alive(), minor)
        check_host(request)
        if b"upgrade" in headers and llhttp.should_upgrade():
            self._upgrade = True
            return
        self.phase = "body"
        wants_continue = check_expectation(request)
        if b"content-length" in headers or b"transfer-encoding" in headers:
            self._expect_body(request, wants_continue)

    def on_body(self, piece: bytes) -> None:
        """Take a piece of the body."""
        self._fed = 0
        self._body_size += len(piece)
        if self._body_size > self._most_bytes:
            raise too_large(self._most_bytes)
        if self._reader is not None:
            self._messages.append(BodyPiece(self._reader, piece))
            return
        self._body += piece

    def on_message_complete(self) -> None:
        """Give the request out: it is whole."""
        if self._upgrade:
            return
        request = self._request
        del self._request
        if self._body_size:
            request.body_size = self._body_size
            if self._reader is None:
                request.body = bytes(self._body)
                self._body = bytearray()
            self._body_size = 0
        self._reader = None
        # llhttp obeys `Connection: close` among the trailers, too, and reads nothing after it: for another connection's
        # request this parser would be of no use.
        if not self._llhttp.should_keep_alive():
            request.keep_alive = False
        if not request.keep_alive:
            self.closing = True
        self._messages.append(request)
        self.phase = "idle"
        self._fed = self._repeated = 0

    # Head and body.

    def _minor_version(self) -> int:
        major, _, minor = self._llhttp.get_http_version().partition(".")
        if major != "1":
            raise RefusedError("505", "this server speaks HTTP/1.1")
        return min(int(minor), 1)

    def _expect_body(self, request: Request, wants_continue: bool) -> None:
        headers = request.headers
        if b"transfer-encoding" in headers:
            if request.http_minor == 0:
                raise RefusedError("400", "HTTP/1.0 has no Transfer-Encoding")
            if members(headers[b"transfer-encoding"]) != [b"chunked"]:
                raise RefusedError("501", "the only transfer coding understood is chunked")
        # llhttp takes any number of leading zeros, int() no more than 4,300 digits.
        length = int(headers.get(b"content-length", b"").lstrip(b"0") or b"0")
        self._reader = request.reader = self.open_body(request)
        self._most_bytes = MAX_BODY_BYTES if self._reader is None else self._reader.max_bytes
        if length > self._most_bytes:
            raise too_large(self._most_bytes)
        self._body = bytearray()
        if wants_continue and (length or b"transfer-encoding" in headers):
            self._messages.append(CONTINUE)
        self._headers = {}  # trailers go here: they may not pass for header fields

    # Bounds and refusals.

    def _bound_repeated(self, name: bytes) -> None:
        """Bound fields of a name that was there before: they are joined, and thousands would cost quadratic time."""
        if name == b"host":
            raise RefusedError("400", "two Host fields")
        self._repeated += 1
        if self._repeated > MAX_FIELDS:
            raise RefusedError("431", f"more than {MAX_FIELDS} header fields")

    def _bound_head(self) -> None:
        if len(self._headers) + self._repeated > MAX_FIELDS:
            raise RefusedError("431", f"more than {MAX_FIELDS} header fields")
        if len(self._target) > MAX_TARGET_BYTES:
            raise target_too_long()
        fields = sum(len(name) + len(value) + 4 for name, value in self._headers.items())
        if len(self._target) + fields > MAX_HEAD_BYTES:
            raise RefusedError("431", f"a head may have {MAX_HEAD_BYTES} bytes")

    def _bound_unfinished(self) -> None:
        """Bound what llhttp holds of an unfinished field, which it does not show; of trailers too."""
        self._fed += self._piece_size
        if self.phase == "head" and len(self._target) > MAX_TARGET_BYTES:
            self._refuse(target_too_long())
        elif self._fed > MAX_HEAD_BYTES + PIECE_BYTES:
            self._refuse(RefusedError("431", f"a head may have {MAX_HEAD_BYTES} bytes"))

    def _head_without_upgrade(self) -> bytes:
        """Make a head for a new llhttp, when the old one takes what follows this one for another protocol.

        The old one has not looked at the body, so the new one needs the head to find its end.
        """
        request = self._request
        fields = b"".join(b"%b: %b\r\n" % field for field in request.headers.items() if field[0] != b"upgrade")
        return b"%b %b HTTP/1.%d\r\n%b\r\n" % (request.method.encode(), request.target, request.http_minor, fields)

    def _refuse_as_raised(self, error: HttpParserCallbackError) -> None:
        cause = error.__context__
        if not isinstance(cause, RefusedError):
            raise error
        self._refuse(cause)

    def _refuse_unparsable(self, error: str, piece: bytes) -> None:
        if self.closing:  # it was the last request, and what follows it is not read
            return
        if self.phase == "head" and len(self._target) > MAX_TARGET_BYTES:  # in pieces, it is found first
            refusal = target_too_long()
        elif "HTTP version" in error or "PRI" in error:
            refusal = RefusedError("505", "this server speaks HTTP/1.1")
        elif "overflow" in error:
            refusal = too_large(MAX_BODY_BYTES)
        elif "Invalid method" in error and not METHODS.keys() >= set(METHOD_LIKE.findall(piece)):
            refusal = RefusedError("501", "unknown method")
        else:
            refusal = RefusedError("400", f"not HTTP: {error}")
        self._refuse(refusal)

    def _refuse(self, refusal: RefusedError) -> None:
        self._messages.append(refusal.response)
        self.closing = True
        # Without a target, the method is still the one of the request before.
        self.is_head = bool(self._target) and self._llhttp.get_method() == b"HEAD"
        self.phase = "idle"


def target_too_long() -> RefusedError:
    """Return the refusal of a target that is longer than we read."""
    return RefusedError("414", f"a target may have {MAX_TARGET_BYTES} bytes")


def members(value: bytes) -> list[bytes]:
    """Return the members of a field that is a list, in lower case; empty ones do not count (RFC 9110 § 5.6.1.2)."""
    return [member for part in value.lower().split(b",") if (member := part.strip(b" \t"))]


def check_host(request: Request) -> None:
    """Refuse what RFC 9112 § 3.2 refuses: HTTP/1.1 without a Host, a Host that is none, or none for a path."""
    host = request.headers.get(b"host")
    if host is None:
        if request.http_minor:
            raise RefusedError("400", "HTTP/1.1 needs a Host field")
    elif request.target[:1] not in b"/*":
        return  # the target names the host, and the field's value is ignored (§ 3.2.2)
    elif not HOST.fullmatch(host):
        raise RefusedError("400", "the Host field is not a host")
    elif not host and request.target != b"*":
        raise RefusedError("400", "the Host field is empty")


def check_expectation(request: Request) -> bool:
    """Return whether `100 Continue` is expected; HTTP/1.0 does not know it. Refuses any other expectation."""
    expected = members(request.headers.get(b"expect", b""))
    if not request.http_minor:
        return False
    if set(expected) - {b"100-continue"}:
        raise RefusedError("417", "the only expectation met is 100-continue")
    return bool(expected)
