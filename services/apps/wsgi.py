"""WSGI (PEP 3333): an application of one's own as a `Handler`. Used by one worker's thread only.

    request ──▶ environ ──▶ application(environ, start_response) ──▶ iterable ──▶ Response

The application is called in the worker's own loop, so it holds up what the model's picture says: nothing here softens
that. What the specification leaves to the server, and what is peculiar here:

- The request's body has been received whole (apps/spool.py), so `wsgi.input` never waits, ends where the body does
  (`wsgi.input_terminated`), and CONTENT_LENGTH is always known.
- A body of one piece, or of a list, is sent with its length. Of any other iterable the first piece that is not empty
  goes out with the head, and the next is asked for when the kernel has taken the one before (back-pressure). Without a
  Content-Length it is chunked; for HTTP/1.0 it ends with the connection.
- Where a response is handed off (ramcloud) it is collected first, MAX_COLLECTED_BYTES at most: the dispatcher must not
  run the application's code, and a process cannot pass on a generator.
- `write()` collects, too: there is no way to wait for a client from inside of a loop.
- The reason phrase is the registry's, not the application's: HTTP/1.1 asks clients to ignore it (RFC 9112 § 4).
- Header fields with an underscore are dropped: X_User and X-User would have one name in the environ.
- `Date` is the server's. Fields about the connection are the server's as well, and refused, as PEP 3333 has it.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from services.apps.adapter import (
    CONNECTION,
    FIELD,
    LENGTH,
    MAX_COLLECTED_BYTES,
    MAX_NAMES,
    Adapter,
    check_collected,
    kind_of,
)  # fmt: skip
from services.apps.failure import INTERNAL_ERROR, NO_ROOM, NOT_HTTP, describe
from services.apps.spool import Spool
from services.messages import BODILESS, CutShortError, Message, Request, Response

if TYPE_CHECKING:
    from types import TracebackType

    from services.apps.surroundings import Surroundings

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType]

logger = logging.getLogger("services")

Environ = dict[str, Any]
MAX_LINE_CHARACTERS = 64 * 1024
"""Of a line in `wsgi.errors`."""


class WsgiAdapter(Adapter):
    """One worker's application; `execute` is a `Handler` (services/messages.py)."""

    def __init__(self, application: Callable[..., Iterable[bytes]], surroundings: Surroundings) -> None:
        self._application = application
        self._worker = surroundings.worker.encode()
        self._hands_off = surroundings.hands_off
        self._base: Environ = {
            "SCRIPT_NAME": "",
            "SERVER_NAME": surroundings.host,
            "SERVER_PORT": str(surroundings.port),
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.errors": ErrorLog(surroundings.worker),
            "wsgi.multithread": surroundings.multithread,
            "wsgi.multiprocess": surroundings.multiprocess,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
        }

    def execute(self, message: Message) -> Response:
        """Call the application; an exception is logged with its traceback and becomes a 500."""
        if not isinstance(message, Request):
            return Response("SERVER_ERROR", NOT_HTTP)
        reader = message.reader
        if isinstance(reader, Spool) and reader.failed:
            response = Response("507", NO_ROOM)
        else:
            try:
                response = self._call(message)
            except Exception:
                logger.exception("worker %s: the application failed on %s", self._worker.decode(), describe(message))
                response = Response("500", INTERNAL_ERROR)
        response.worker = self._worker
        return response

    def _call(self, request: Request) -> Response:
        head = Head()
        iterable = self._application(self.environ(request), head.start)
        try:
            response = self._respond(request, head, iterable)
        except BaseException:
            close(iterable)
            raise
        if response.pieces is None:
            close(iterable)
        return response

    def environ(self, request: Request) -> Environ:
        """Make the environ: the base's copy, the target, the fields and the body."""
        environ = self._base.copy()
        target = request.target.decode("latin-1")
        path, _, environ["QUERY_STRING"] = target.partition("?")
        environ["REQUEST_URI"] = target
        environ["REQUEST_METHOD"] = request.method
        add_fields(environ, request)
        if path[:1] != "/":
            path = add_host_of(environ, path)
        environ["PATH_INFO"] = unquote_to_bytes(path).decode("latin-1") if "%" in path else path
        if not request.http_minor:
            environ["SERVER_PROTOCOL"] = "HTTP/1.0"
        if request.body_size or "HTTP_TRANSFER_ENCODING" in environ:
            environ.pop("HTTP_TRANSFER_ENCODING", None)
            environ["CONTENT_LENGTH"] = str(request.body_size)
        if request.peer is not None:
            environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = request.peer[0], str(request.peer[1])
        reader = request.reader
        environ["wsgi.input"] = reader.file() if isinstance(reader, Spool) else io.BytesIO(request.body)
        return environ

    def _respond(self, request: Request, head: Head, iterable: Iterable[bytes]) -> Response:
        """Take from the iterable what has to be known before the head can be sent: all, or the first piece."""
        pieces: Iterator[bytes] = iter(())
        if isinstance(iterable, list | tuple):
            body, is_whole = b"".join(iterable), True
        else:
            pieces = iter(iterable)
            body, is_whole = first_piece(pieces)
        if not head.code:
            raise RuntimeError("the application gave a body without a call of start_response")
        head.is_sent = True
        if head.written:
            body = b"".join([*head.written, body])
        if request.method == "HEAD" or head.code in BODILESS:
            length = head.length
            if length is None and is_whole and body and head.code not in BODILESS:
                length = len(body)
            return Response(head.code, b"", b"", head.fields(length))
        if head.length is not None and len(body) >= head.length:
            return Response(head.code, body[: head.length], b"", head.fields(head.length))
        if not is_whole and self._hands_off:
            body, is_whole = collect(body, pieces), True
        if is_whole or (head.length is None and has_one_piece(iterable) and not head.written):
            if head.length is not None and len(body) != head.length:
                raise RuntimeError(f"the application announced {head.length} bytes and gave {len(body)}")
            return Response(head.code, body, b"", head.fields(len(body)))
        left = None if head.length is None else head.length - len(body)
        return Response(head.code, body, b"", head.fields(head.length), Rest(iterable, pieces, left, describe(request)))


class Head:
    """Status and fields of one response, as `start_response` is told them."""

    __slots__ = ("_fields", "code", "is_sent", "length", "written")

    def __init__(self) -> None:
        self.code = ""
        self.length: int | None = None
        self.written: list[bytes] = []
        self.is_sent = False
        self._fields = b""

    def start(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], object]:
        """Take status and fields: `start_response`. Raises ValueError or TypeError for what HTTP cannot carry."""
        if exc_info is not None:
            try:
                if self.is_sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # else a circle of frames would live on
        elif self.code:
            raise RuntimeError("start_response was called a second time, without exc_info")
        code = status[:3]
        if not (code.isascii() and code.isdecimal() and code >= "200" and status[3:4] in ("", " ")):
            raise ValueError(f"status {status!r}: give three digits from 200 and a reason, such as '200 OK'")
        lines, length = [], None
        for name, value in headers:
            kind = kind_of(name)
            if kind == FIELD:
                lines.append(name + ": " + value + "\r\n")
            elif kind == LENGTH:
                length = read_length(value)
            elif kind == CONNECTION:
                raise ValueError(f"header {name!r} is about the connection, which is the server's (PEP 3333)")
        text = "".join(lines)
        if text.count("\n") != len(lines) or text.count("\r") != len(lines) or "\0" in text:
            raise ValueError("a header's value has a line's end in it, or a zero byte")
        self._fields = text.encode("latin-1")
        self.code, self.length = code, length
        return self.write

    def write(self, data: bytes) -> None:
        """Collect a piece that is to go before the iterable's."""
        if self.is_sent or sum(map(len, self.written)) + len(data) > MAX_COLLECTED_BYTES:
            raise RuntimeError(f"write() came after the body began, or has collected {MAX_COLLECTED_BYTES} bytes")
        self.written.append(data)

    def fields(self, length: int | None) -> bytes:
        """Return all header lines, with the length where it is known and may be said."""
        if length is None or self.code == "204":
            return self._fields
        return b"%bContent-Length: %d\r\n" % (self._fields, length)


class Rest:
    """Pieces behind the first, made as the client takes them. Implements `Pieces`.

    `left`: bytes of them by the Content-Length; None where there is none.
    """

    later = None

    def __init__(self, iterable: Iterable[bytes], pieces: Iterator[bytes], left: int | None, request: str) -> None:
        self.size = left
        self._iterable: Iterable[bytes] | None = iterable
        self._pieces = pieces
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        left = self.size
        try:
            for piece in self._pieces:
                if left is not None:
                    piece = piece[:left]
                    left -= len(piece)
                if piece:
                    yield checked(piece)
                if left == 0:
                    return
        except Exception as error:
            logger.exception("the application failed in the middle of its response to %s", self._request)
            raise CutShortError from error
        finally:
            self.close()
        if left:
            logger.error("the application gave %d bytes less than it announced to %s", left, self._request)
            raise CutShortError

    def close(self) -> None:
        """Call the iterable's `close`, once."""
        iterable, self._iterable = self._iterable, None
        if iterable is not None:
            close(iterable)


class ErrorLog(io.TextIOBase):
    """`wsgi.errors`: each line becomes one of the server's log."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._line = ""

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Log the lines that are complete."""
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._log(line)
        if len(self._line) > MAX_LINE_CHARACTERS:
            self.flush()
        return len(text)

    def flush(self) -> None:
        """Log what there is of a line."""
        line, self._line = self._line, ""
        self._log(line)

    def _log(self, line: str) -> None:
        if line:
            logger.error("worker %s: %s", self._worker, line[:MAX_LINE_CHARACTERS])


# The request.


def add_fields(environ: Environ, request: Request) -> None:
    """Add the header fields, from the head's own bytes where there are no fields made of them yet."""
    fields = request.fields
    if isinstance(fields, bytes):
        lines = fields.decode("latin-1").rstrip("\r\n").split("\r\n")
        triples = [line.partition(":") for line in lines[1:]]
    else:
        triples = [(name.decode("latin-1"), ":", value.decode("latin-1")) for name, value in fields.items()]
    for name, _, value in triples:
        key = key_of(name)
        if key not in environ:
            environ[key] = value.strip(" \t")
        else:
            environ[key] += ("; " if key == "HTTP_COOKIE" else ", ") + value.strip(" \t")
    environ.pop("", None)  # those whose names have an underscore


@lru_cache(MAX_NAMES)
def key_of(name: str) -> str:
    """Return the environ's key for a field; empty for one that has an underscore."""
    if "_" in name:
        return ""
    key = name.upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


def add_host_of(environ: Environ, target: str) -> str:
    """Return the path of a target that is a whole URL, whose host then counts (RFC 9112 § 3.2.2); empty for `*`."""
    _, _, rest = target.partition("://")
    if not rest:
        return ""
    host, slash, path = rest.partition("/")
    environ["HTTP_HOST"] = host.rpartition("@")[2]
    return slash + path or "/"


# The response.


def first_piece(pieces: Iterator[bytes]) -> tuple[bytes, bool]:
    """Return the first piece that is not empty, and whether there is none."""
    for piece in pieces:
        if piece:
            return checked(piece), False
    return b"", True


def checked(piece: bytes) -> bytes:
    """Return the piece. Raises TypeError where it is text, say."""
    if not isinstance(piece, bytes):
        raise TypeError(f"a piece of the body is of type {type(piece).__name__}, not bytes")
    return piece


def has_one_piece(iterable: Iterable[bytes]) -> bool:
    """Return whether the iterable says that it has one piece."""
    try:
        return len(iterable) == 1  # type: ignore[arg-type]
    except TypeError:
        return False


def collect(body: bytes, pieces: Iterator[bytes]) -> bytes:
    """Return the body and all pieces behind it. Raises RuntimeError where they are too many."""
    collected = bytearray(body)
    for piece in pieces:
        collected += piece
        check_collected(len(collected))
    return bytes(collected)


def close(iterable: Iterable[bytes]) -> None:
    """Call the iterable's `close`, if it has one. An exception there is logged: the response is made."""
    try:
        if (function := getattr(iterable, "close", None)) is not None:
            function()
    except Exception:
        logger.exception("close() of the application's iterable failed")


def read_length(value: str) -> int:
    """Return the length that Content-Length says. Raises ValueError."""
    if not (value.isascii() and value.isdecimal()):
        raise ValueError(f"Content-Length {value!r} is not a number")
    return int(value)
