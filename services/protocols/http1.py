"""HTTP/1.1, parsed by httptools (Node's llhttp): bytes to requests, responses to bytes.

What cannot be parsed, or is larger than the bounds below, is refused with the status that RFC 9110 and
RFC 6585 give for it, and nothing more is read: after a broken message nobody can tell where the next
one begins. `Upgrade` is ignored, as RFC 9110 § 7.8 allows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import NoReturn

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser

from services.messages import Message, Request, Response

MAX_TARGET_BYTES = 8 * 1024
MAX_HEAD_BYTES = 32 * 1024
MAX_FIELDS = 100
MAX_BODY_BYTES = 1024 * 1024

CONTINUE = Response("100")
NOTHING: list[Message | Response] = []
"""Stands for "no list" between two calls; nothing is ever put into it."""
STATUS_LINES = {str(status.value): f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
BODILESS = frozenset({"204", "304"})
METHODS = {method.encode(): method for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE")}
TOKEN = re.compile(rb"[A-Z]+(?: |\Z)")

SinkRate = Callable[[Request], "int | None"]


class CommonHead:
    """What every response of one loop carries: who answers, and the date. One for all its connections."""

    def __init__(self, model: bytes, worker: bytes) -> None:
        self.worker = worker
        self._model = model
        self._prefixes: dict[tuple[str, bytes], bytes] = {}
        self._date = b""
        self.refresh(0.0)

    def refresh(self, epoch_seconds: float) -> None:
        """Set the date; called by the loop once a second."""
        self._date = formatdate(epoch_seconds, usegmt=True).encode()
        self._prefixes.clear()

    def prefix(self, code: str, worker: bytes) -> bytes:
        """Status line and common fields. Kept until the date changes: a second's responses share a few."""
        prefix = self._prefixes.get((code, worker))
        if prefix is None:
            prefix = b"%bX-Model: %b\r\nX-Worker: %b\r\nDate: %b\r\n" % (
                STATUS_LINES[code], self._model, worker or self.worker, self._date,
            )  # fmt: skip
            self._prefixes[code, worker] = prefix
        return prefix


class RefusedError(Exception):
    """Raised inside a callback to stop the parser; carries the answer."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.code)
        self.response = response


class Http1:
    """One connection's HTTP. Holds at most one head, one body and what `receive` returned last."""

    __slots__ = (
        "_body_size", "_common", "_fed", "_headers", "_messages", "_parser", "_pieces", "_request", "_sink_rate",
        "_target", "closing", "phase", "read_rate",
    )  # fmt: skip

    def __init__(self, common: CommonHead, sink_rate: SinkRate) -> None:
        self._common = common
        self._sink_rate = sink_rate
        self._parser = HttpRequestParser(self)
        self._messages = NOTHING
        self._fed = 0
        self.phase = "idle"
        self.closing = False
        self.read_rate = 0

    def receive(self, data: bytes) -> list[Message | Response]:
        """The requests that `data` completes, `100 Continue`, or a refusal. See `messages.Protocol`."""
        self._messages = messages = []
        if self.closing:
            return messages
        self._fed += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            return messages + self._after_upgrade(data[upgrade.args[0] :])
        except HttpParserCallbackError as error:
            self._refuse(error)
        except HttpParserError as error:
            self._refuse_unparsable(error, data)
        if self.phase == "head" and self._fed > MAX_TARGET_BYTES:
            self._check_unfinished_head()
        self._messages = NOTHING  # an idle connection keeps no request alive
        return messages

    def encode(self, message: Message | None, response: Response) -> bytes:
        """The response's head and body. Clears `filler` for a method that wants no body."""
        code = response.code
        if code == "100":
            return b"HTTP/1.1 100 Continue\r\n\r\n"
        prefix = self._common.prefix(code, response.worker)
        body, headers = response.body, response.headers
        size = len(body) + response.filler
        if not isinstance(message, Request) or not message.keep_alive:
            self.closing = True
            headers += b"Connection: close\r\n"
        elif message.http_minor == 0:
            headers += b"Connection: keep-alive\r\n"
        if code in BODILESS:
            return b"%b%b\r\n" % (prefix, headers)
        if isinstance(message, Request) and message.method == "HEAD":
            body = b""
            response.filler = 0
        return b"%bContent-Type: %b\r\nContent-Length: %d\r\n%b\r\n%b" % (
            prefix, response.content_type, size, headers, body,
        )  # fmt: skip

    def timed_out(self) -> Response | None:
        """408 to a peer that is slow with a request; nothing to one that has sent none."""
        if self.phase == "idle":
            return None
        self.closing = True
        return Response("408", b"the request did not come in time\n")

    # What llhttp calls.

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self.phase = "head"
        self._target = b""
        self._headers: dict[bytes, bytes] = {}

    def on_url(self, piece: bytes) -> None:
        """The target, or a piece of it."""
        self._target += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field. A repeated one is joined by commas, as RFC 9110 § 5.2 has it; a second Host is refused."""
        name = name.lower()
        headers = self._headers
        if name in headers:
            if name == b"host":
                refuse("400", "two Host fields")
            value = headers[name] + b", " + value
        headers[name] = value
        if len(headers) > MAX_FIELDS:
            refuse("431", f"more than {MAX_FIELDS} header fields")

    def on_headers_complete(self) -> None:
        """The head is whole: decide whether and how to read the body."""
        parser, headers = self._parser, self._headers
        method = parser.get_method()
        version = parser.get_http_version()
        self._request = request = Request(METHODS.get(method) or method.decode(), self._target, headers)
        if version != "1.1":
            if version != "1.0":
                refuse("505", "this server speaks HTTP/1.1")
            request.http_minor = 0
        elif b"host" not in headers:
            refuse("400", "HTTP/1.1 needs a Host field")
        if self._fed > MAX_TARGET_BYTES:
            self._check_head()
        self.phase = "body"
        self._body_size = 0
        self._pieces: list[bytes] | None = None
        if b"content-length" in headers or b"transfer-encoding" in headers:
            self._plan_body(request)
        elif request.method == "CONNECT":
            refuse("501", "this is no proxy")

    def on_body(self, piece: bytes) -> None:
        """A piece of the body."""
        self._body_size += len(piece)
        if self._pieces is not None:
            if self._body_size > MAX_BODY_BYTES:
                refuse("413", f"a body may have {MAX_BODY_BYTES} bytes")
            self._pieces.append(piece)

    def on_message_complete(self) -> None:
        """The request is whole."""
        request = self._request
        request.keep_alive = self._parser.should_keep_alive()
        if not request.keep_alive:
            self.closing = True
        if self._pieces:
            request.body = b"".join(self._pieces)
            self._pieces = None
        request.body_size = self._body_size
        self._messages.append(request)
        del self._request, self._headers
        self.phase = "idle"
        self.read_rate = 0
        self._fed = 0

    # Bounds and refusals.

    def _plan_body(self, request: Request) -> None:
        headers = request.headers
        coding = headers.get(b"transfer-encoding", b"chunked")
        if coding.lower() != b"chunked":
            refuse("501", "the only transfer coding understood is chunked")
        rate = self._sink_rate(request)
        if rate is not None:
            self.read_rate = rate
        elif int(headers.get(b"content-length", b"0")) > MAX_BODY_BYTES:
            refuse("413", f"a body may have {MAX_BODY_BYTES} bytes")
        else:
            self._pieces = []
        expectation = headers.get(b"expect")
        if expectation is None or request.http_minor == 0:
            return
        if expectation.lower() != b"100-continue":
            refuse("417", "the only expectation met is 100-continue")
        self._messages.append(CONTINUE)

    def _check_head(self) -> None:
        if len(self._target) > MAX_TARGET_BYTES:
            refuse("414", f"a target may have {MAX_TARGET_BYTES} bytes")
        if sum(len(name) + len(value) + 4 for name, value in self._headers.items()) > MAX_HEAD_BYTES:
            refuse("431", f"a head may have {MAX_HEAD_BYTES} bytes")

    def _check_unfinished_head(self) -> None:
        """llhttp holds an unfinished field for us; this keeps that within the bounds too."""
        if len(self._target) > MAX_TARGET_BYTES:
            self._answer_refusal(Response("414", f"a target may have {MAX_TARGET_BYTES} bytes\n".encode()))
        elif self._fed > MAX_HEAD_BYTES:
            self._answer_refusal(Response("431", f"a head may have {MAX_HEAD_BYTES} bytes\n".encode()))

    def _after_upgrade(self, rest: bytes) -> list[Message | Response]:
        self._parser = HttpRequestParser(self)
        return self.receive(rest) if rest else []

    def _refuse(self, error: HttpParserCallbackError) -> None:
        cause = error.__context__
        if not isinstance(cause, RefusedError):
            raise error
        self._answer_refusal(cause.response)

    def _refuse_unparsable(self, error: HttpParserError, data: bytes) -> None:
        if self.closing:  # it was the last request, and what follows it is not read
            return
        text = str(error)
        if "version" in text:
            self._answer_refusal(Response("505", b"this server speaks HTTP/1.1\n"))
        elif "method" in text and TOKEN.match(data):
            self._answer_refusal(Response("501", b"unknown method\n"))
        else:
            self._answer_refusal(Response("400", f"not HTTP: {text}\n".encode()))

    def _answer_refusal(self, response: Response) -> None:
        self._messages.append(response)
        self.closing = True
        self.phase = "idle"
        self.read_rate = 0


def refuse(code: str, why: str) -> NoReturn:
    """Stop the parser and answer so."""
    raise RefusedError(Response(code, f"{why}\n".encode()))
