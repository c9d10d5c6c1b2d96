"""PEP 3333: environ, start_response, iterables and errors, without a server."""

from __future__ import annotations

import logging
import sys
from wsgiref.validate import validator

import pytest

from services.apps import adapter as adapter_module
from services.apps import wsgi
from services.apps.adapter import MAX_NAMES, kind_of
from services.apps.spool import Spool
from services.apps.surroundings import Surroundings
from services.apps.wsgi import WsgiAdapter
from services.messages import Command, CutShortError, Request

HEAD = b"GET /a%20b?x=%31 HTTP/1.1\r\nHost: shop:80\r\nX-Name:  caf\xe9 \r\nX_Name: forged\r\nA: 1\r\nA: 2\r\n\r\n"


def adapter(application, *, hands_off: bool = False) -> WsgiAdapter:
    return WsgiAdapter(application, Surroundings("0", "127.0.0.1", 8000, False, True, hands_off))


def get(application, request: Request | None = None, **given):
    return adapter(application, **given).execute(request or Request("GET", b"/", HEAD))


def giving(body, *fields: tuple[str, str], status: str = "200 OK"):
    """An application that gives this body."""

    def application(environ, start_response):
        start_response(status, list(fields))
        return body

    return application


class Closing:
    """An iterable that counts its close()."""

    def __init__(self, pieces) -> None:
        self.pieces, self.closed = pieces, 0

    def __iter__(self):
        return iter(self.pieces)

    def close(self) -> None:
        self.closed += 1


def environ_of(request: Request) -> dict:
    return adapter(giving([])).environ(request)


# The environ.


@pytest.mark.parametrize("fields", [HEAD, {b"host": b"shop:80", b"x-name": b"caf\xe9", b"x_name": b"f", b"a": b"1, 2"}])
def test_environ_has_target_and_fields(fields):
    environ = environ_of(Request("GET", b"/a%20b%C3%A9?x=%31", fields))
    assert environ["REQUEST_METHOD"] == "GET"
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("", "/a b\xc3\xa9")
    assert environ["QUERY_STRING"] == "x=%31"
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"], environ["SERVER_PROTOCOL"]) == (
        "127.0.0.1", "8000", "HTTP/1.1",
    )  # fmt: skip
    assert {key: value for key, value in environ.items() if key.startswith("HTTP_")} == {
        "HTTP_HOST": "shop:80", "HTTP_X_NAME": "café", "HTTP_A": "1, 2",
    }  # fmt: skip
    assert environ["wsgi.multiprocess"]
    assert not environ["wsgi.multithread"]
    assert environ["wsgi.input"].read() == b""


def test_environ_of_one_request_has_nothing_of_another():
    made = adapter(giving([]))
    made.environ(Request("GET", b"/", HEAD))["extra"] = 1
    assert not {"extra", "HTTP_X_NAME"} & made.environ(Request("GET", b"/", {b"host": b"x"})).keys()


def test_body_comes_with_its_length_however_it_was_sent():
    fields = {b"host": b"x", b"content-type": b"text/plain", b"content-length": b"4"}
    environ = environ_of(Request("POST", b"/", fields, b"body", 4))
    assert (environ["CONTENT_TYPE"], environ["CONTENT_LENGTH"]) == ("text/plain", "4")
    assert environ["wsgi.input"].read() == b"body"
    spool = Spool(100)
    spool.take(b"chunks")
    chunked = {b"host": b"x", b"transfer-encoding": b"chunked"}
    environ = environ_of(Request("POST", b"/", chunked, b"", 6, reader=spool))
    assert environ["CONTENT_LENGTH"] == "6"
    assert "HTTP_TRANSFER_ENCODING" not in environ
    assert environ["wsgi.input"].readlines() == [b"chunks"]


@pytest.mark.parametrize(
    ("target", "path", "host"),
    [
        (b"http://other:1/p?q", "/p", "other:1"),
        (b"http://me@other", "/", "other"),
        (b"*", "", "x"),
        (b"/http://y/z", "/http://y/z", "x"),
    ],
)
def test_target_may_be_a_url(target, path, host):
    environ = environ_of(Request("OPTIONS", target, {b"host": b"x"}))
    assert (environ["PATH_INFO"], environ["HTTP_HOST"]) == (path, host)


def test_client_is_named_where_it_is_known():
    environ = environ_of(Request("GET", b"/", {b"host": b"x"}, peer=("192.0.2.7", 5000)))
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("192.0.2.7", "5000")
    assert "REMOTE_ADDR" not in environ_of(Request("GET", b"/", {b"host": b"x"}))


def test_cookies_of_several_fields_are_one_list():
    head = b"GET / HTTP/1.1\r\nHost: x\r\nCookie: a=1\r\nCookie: b=2\r\n\r\n"
    assert environ_of(Request("GET", b"/", head))["HTTP_COOKIE"] == "a=1; b=2"
    assert environ_of(Request("GET", b"/", Request("GET", b"/", head).headers))["HTTP_COOKIE"] == "a=1; b=2"


def test_errors_go_to_the_log_line_by_line(caplog):
    errors = environ_of(Request("GET", b"/", HEAD))["wsgi.errors"]
    errors.write("one\ntwo")
    errors.writelines([" and", " a half"])
    errors.flush()
    assert [record.getMessage() for record in caplog.records] == ["worker 0: one", "worker 0: two and a half"]


# The response.


@pytest.mark.parametrize("body", [[b"whole"], (b"who", b"le"), Closing([b"", b"whole", b""])])
def test_length_is_added_or_kept(body):
    fields = [("Content-Type", "text/plain")]
    if isinstance(body, Closing):
        fields.append(("content-length", "5"))
    response = get(giving(body, *fields))
    assert (response.code, response.body, response.pieces) == ("200", b"whole", None)
    assert response.headers == b"Content-Type: text/plain\r\nContent-Length: 5\r\n"
    assert response.worker == b"0"


def test_iterable_that_says_it_has_one_piece_gets_a_length():
    class One(Closing):
        def __len__(self) -> int:
            return 1

    assert b"Content-Length: 3" in get(giving(One([b"one"]))).headers


def test_pieces_are_made_one_by_one_behind_the_first():
    made = []

    def pieces():
        for number in range(3):
            made.append(number)
            yield b"%d" % number

    response = get(giving(pieces()))
    assert (response.body, response.pieces.size, made) == (b"0", None, [0])
    rest = iter(response.pieces)
    assert (next(rest), made) == (b"1", [0, 1])
    assert b"Content-Length" not in response.headers


def test_pieces_beyond_the_announced_length_are_left_out():
    response = get(giving(Closing([b"ab", b"cd", b"ef"]), ("Content-Length", "3")))
    assert (response.body, response.pieces.size, list(response.pieces)) == (b"ab", 1, [b"c"])
    assert get(giving(Closing([b"abc", b"d"]), ("Content-Length", "2"))).body == b"ab"


def test_pieces_that_are_too_few_are_cut_short(caplog):
    response = get(giving(Closing([b"ab", b"cd"]), ("Content-Length", "9")))
    with pytest.raises(CutShortError):
        list(response.pieces)
    assert "5 bytes less" in caplog.text
    assert get(giving([b"ab"], ("Content-Length", "9"))).code == "500"


def test_generator_may_call_start_response_late():
    def application(environ, start_response):
        yield b""
        start_response("202 Accepted", [])
        yield b"late"

    assert (get(application).code, get(application).body) == ("202", b"late")


def test_write_goes_before_the_iterable():
    def application(environ, start_response):
        write = start_response("200 OK", [])
        write(b"one ")
        write(b"two ")
        return [b"three"]

    assert get(application).body == b"one two three"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_response_that_has_no_body_gets_neither_body_nor_length(status):
    body = Closing([b"none"])
    response = get(giving(body, status=status))
    assert (response.code, response.body, response.headers, body.closed) == (status[:3], b"", b"", 1)


def test_head_has_the_length_that_the_application_says_and_no_body():
    head = Request("HEAD", b"/", HEAD)
    assert get(giving([], ("Content-Length", "7")), head).headers == b"Content-Length: 7\r\n"
    assert get(giving([b"body"]), head).headers == b"Content-Length: 4\r\n"
    body = Closing([b"a", b"b"])
    response = get(giving(body), head)
    assert (response.headers, response.body, response.pieces, body.closed) == (b"", b"", None, 1)


def test_status_may_be_any_from_200():
    assert get(giving([], status="299 Of My Own")).code == "299"


@pytest.mark.parametrize(
    "application",
    [
        lambda environ, start_response: 1 / 0,
        lambda environ, start_response: [b"no start_response"],
        giving([], status="100 Continue"),
        giving([], status="abc"),
        giving([], status=200),
        giving(["text"]),
        giving(iter(["text"])),
        giving([], ("X", "a\r\nInjected: b")),
        giving([], ("X", "a\nb")),
        giving([], ("X", "a\0b")),
        giving([], ("X", "\u20ac")),
        giving([], ("X", b"bytes")),
        giving([], ("X\r\nY", "a")),
        giving([], ("", "a")),
        giving([], ("Connection", "close")),
        giving([], ("transfer-encoding", "chunked")),
        giving([], ("Content-Length", "-1")),
        giving(7),
    ],
)
def test_failure_is_a_500_and_logged_with_its_traceback(application, caplog):
    response = get(application)
    assert (response.code, response.pieces, response.worker) == ("500", None, b"0")
    assert "the application failed on GET b'/'" in caplog.text
    assert caplog.records[0].exc_info


def test_latin_1_goes_both_ways():
    assert get(giving([], ("X-Name", "café"))).headers == b"X-Name: caf\xe9\r\nContent-Length: 0\r\n"


def test_date_is_the_servers():
    assert get(giving([], ("Date", "yesterday"))).headers == b"Content-Length: 0\r\n"


def test_second_start_response_needs_exc_info():
    def application(environ, start_response):
        start_response("200 OK", [("X", "1")])
        try:
            1 / 0  # noqa: B018
        except ZeroDivisionError:
            start_response("500 Oops", [("Y", "2")], sys.exc_info())
        return [b"sorry"]

    response = get(application)
    assert (response.code, response.headers) == ("500", b"Y: 2\r\nContent-Length: 5\r\n")

    def twice(environ, start_response):
        start_response("200 OK", [])
        start_response("200 OK", [])
        return []

    assert get(twice).code == "500"


def test_exc_info_after_the_head_is_sent_raises_and_cuts_short(caplog):
    def application(environ, start_response):
        start_response("200 OK", [])
        yield b"sent"
        try:
            1 / 0  # noqa: B018
        except ZeroDivisionError:
            start_response("500 Oops", [], sys.exc_info())
        yield b"never"

    response = get(application)
    assert (response.code, response.body) == ("200", b"sent")
    with pytest.raises(CutShortError):
        list(response.pieces)
    assert "ZeroDivisionError" in caplog.text


# The iterable's close().


def test_iterable_is_closed_once_at_the_end():
    body = Closing([b"a", b"b"])
    response = get(giving(body))
    assert body.closed == 0
    assert list(response.pieces) == [b"b"]
    response.pieces.close()
    assert body.closed == 1


def test_iterable_is_closed_when_the_client_goes_away():
    body = Closing([b"a", b"b", b"c"])
    response = get(giving(body))
    next(iter(response.pieces))
    response.pieces.close()
    assert body.closed == 1


@pytest.mark.parametrize("pieces", [[], ["text"]])
def test_iterable_is_closed_when_there_is_nothing_or_an_error(pieces):
    body = Closing(pieces)
    get(giving(body))
    assert body.closed == 1


def test_failing_close_spoils_no_response(caplog):
    class Failing(Closing):
        def close(self) -> None:
            raise ValueError("close")

    assert get(giving(Failing([]))).code == "200"
    assert "close() of the application's iterable failed" in caplog.text


# Where responses are handed off.


def test_response_that_is_handed_off_is_whole():
    body = Closing([b"a", b"b", b"c"])
    response = get(giving(body), hands_off=True)
    assert (response.body, response.pieces, body.closed) == (b"abc", None, 1)
    assert response.headers == b"Content-Length: 3\r\n"


def test_response_that_is_handed_off_is_bounded(monkeypatch, caplog):
    monkeypatch.setattr(adapter_module, "MAX_COLLECTED_BYTES", 10)
    body = Closing(iter(lambda: b"xxxx", None))  # without end
    assert get(giving(body), hands_off=True).code == "500"
    assert body.closed == 1
    assert "may have 10 bytes" in caplog.text


def test_body_without_room_is_a_507(caplog):
    caplog.set_level(logging.CRITICAL)
    spool = Spool(100)
    spool.failed = True
    assert get(giving([]), Request("POST", b"/", HEAD, b"", 5, reader=spool)).code == "507"


def test_memcached_command_is_refused():
    assert get(giving([]), Command("get", (b"k",))).code == "SERVER_ERROR"


@pytest.mark.parametrize("body", [[b"whole"], [b"a", b"b"], []])
def test_validator_finds_nothing(body):
    application = validator(giving(body, ("Content-Type", "text/plain")))
    response = get(application)
    assert response.code == "200"
    assert response.body + b"".join(response.pieces or ()) == b"".join(body)


def test_tables_of_names_are_bounded():
    many = MAX_NAMES + 5
    fields = {b"x-%d" % number: b"" for number in range(many)}
    assert environ_of(Request("GET", b"/", fields))["HTTP_X_4"] == ""
    assert get(giving([], *((f"X-{number}", "") for number in range(many)))).headers.count(b"X-") == many
    assert (wsgi.key_of.cache_info().currsize, kind_of.cache_info().currsize) == (MAX_NAMES, MAX_NAMES)
