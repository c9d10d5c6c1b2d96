"""ASGI 3: scope, receive, send, lifespan and what becomes of errors, without a server."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import Callable, Iterator

import pytest

from services.apps import adapter as adapter_module
from services.apps import asgi, asgi_exchange
from services.apps.asgi import NO_WEBSOCKET, AsgiAdapter
from services.apps.asgi_events import PIECE_BYTES
from services.apps.asgi_exchange import HIGH_WATER_BYTES, Exchange
from services.apps.loading import LoadError
from services.apps.spool import Spool
from services.apps.surroundings import Surroundings
from services.messages import Command, CutShortError, Request, Response

HEAD = b"GET /a%20b%C3%A9?x=%31 HTTP/1.1\r\nHost: shop\r\nX-Name:  caf\xe9 \r\nA: 1\r\nA: 2\r\n\r\n"
START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}


@pytest.fixture
def served() -> Iterator[Callable[..., AsgiAdapter]]:
    """Start applications as a worker does."""
    adapters = []

    def start(application, *, hands_off: bool = False, has_lifespan: bool = False) -> AsgiAdapter:
        async def without_lifespan(scope, receive, send):
            assert scope["type"] == "http"
            await application(scope, receive, send)

        called = application if has_lifespan else without_lifespan
        adapter = AsgiAdapter(called, Surroundings("0", "127.0.0.1", 8000, False, True, hands_off), "shop:app")
        adapters.append(adapter)
        adapter.start()
        return adapter

    yield start
    for adapter in adapters:
        adapter.shared.loop.end()
        adapter.close()


def get(method: str = "GET", **fields: bytes) -> Request:
    return Request(method, b"/", {name.encode(): value for name, value in fields.items()})


def body(data: bytes, *, more: bool = False) -> dict:
    return {"type": "http.response.body", "body": data, "more_body": more}


def run_until(adapter: AsgiAdapter, condition: Callable[[], object]) -> None:
    """Run the application's loop as the server's does."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        adapter.shared.loop.run_ready()
        adapter.shared.loop.ready(0)


def later(adapter: AsgiAdapter, request: Request | None = None) -> tuple[Exchange, list[Response]]:
    """Begin a request whose application awaits something; what stands for the response, and where that will come."""
    exchange = adapter.execute(request or get())
    assert isinstance(exchange, Exchange)
    came: list[Response] = []
    exchange.then(came.append)
    return exchange, came


def sends(*events: dict, scopes: list | None = None):
    """An application that sends these."""

    async def application(scope, receive, send):
        if scopes is not None:
            scopes.append(scope)
        for event in events:
            await send(event)

    return application


# The scope, and what is received.


@pytest.mark.parametrize("fields", [HEAD, {b"host": b"shop", b"x-name": b"caf\xe9", b"a": b"1, 2"}])
def test_scope_has_target_fields_and_addresses(served, fields):
    scopes: list = []
    request = Request("GET", b"/a%20b%C3%A9?x=%31", fields, http_minor=0, peer=("10.0.0.1", 4711))
    served(sends(START, body(b""), scopes=scopes)).execute(request)
    headers = scopes[0].pop("headers")
    assert scopes == [
        {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.0",
            "method": "GET",
            "scheme": "http",
            "path": "/a bé",
            "raw_path": b"/a%20b%C3%A9",
            "query_string": b"x=%31",
            "root_path": "",
            "client": ("10.0.0.1", 4711),
            "server": ("127.0.0.1", 8000),
        }
    ]
    lists = [(b"a", b"1"), (b"a", b"2")] if isinstance(fields, bytes) else [(b"a", b"1, 2")]
    assert headers == [(b"host", b"shop"), (b"x-name", b"caf\xe9"), *lists]


def test_host_of_a_whole_url_counts(served):
    scopes: list = []
    served(sends(START, body(b""), scopes=scopes)).execute(Request("GET", b"http://u@a:1?x", {b"host": b"b"}))
    assert (scopes[0]["path"], scopes[0]["headers"]) == ("/", [(b"host", b"a:1")])


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, 2 * PIECE_BYTES + 1])
@pytest.mark.parametrize("spooled", [False, True])
def test_body_is_received_then_the_end(served, size, spooled):
    events: list = []

    async def application(scope, receive, send):
        events.append(await receive())
        while events[-1].get("more_body"):
            events.append(await receive())
        await send(START)
        await send(body(b"ok"))
        events.append(await receive())

    request = Request("POST", b"/", {}, b"" if spooled else bytes(size), size)
    if spooled:
        request.reader = Spool(1 << 20)
        request.reader.take(bytes(size))
    response = served(application).execute(request)
    assert response.body == b"ok"
    *pieces, last = events
    assert b"".join(piece["body"] for piece in pieces) == bytes(size)
    assert all(len(piece["body"]) <= PIECE_BYTES for piece in pieces) or not spooled
    assert last == {"type": "http.disconnect"}


def test_end_of_input_is_a_disconnect_and_the_response_is_still_sent(served):
    events: list = []

    async def application(scope, receive, send):
        await receive()
        events.append(await receive())
        await send(START)
        await send(body(b"late"))

    adapter = served(application)
    exchange, came = later(adapter)
    exchange.end_of_input()
    run_until(adapter, lambda: came)
    assert events == [{"type": "http.disconnect"}]
    assert came[0].body == b"late"


# The response.


def test_response_that_is_not_awaited_is_returned_at_once(served):
    response = served(sends(START, body(b"hello"))).execute(get())
    assert (response.code, response.body, response.pieces, response.worker) == ("200", b"hello", None, b"0")
    assert response.content_type == b""
    assert response.headers == b"content-type: text/plain\r\nContent-Length: 5\r\n"


def test_pieces_that_are_there_at_once_are_one_body(served):
    response = served(sends(START, body(b"a", more=True), body(b"b", more=True), body(b""))).execute(get())
    assert (response.body, response.pieces) == (b"ab", None)
    assert response.headers.endswith(b"Content-Length: 2\r\n")


def test_response_that_comes_later(served):
    async def application(scope, receive, send):
        await asyncio.sleep(0.001)
        await send(START)
        await send(body(b"later"))

    adapter = served(application)
    exchange, came = later(adapter)
    assert not exchange.code
    run_until(adapter, lambda: came)
    assert came[0].body == b"later"


def test_pieces_come_when_they_are_sent(served):
    gate = asyncio.Event()

    async def application(scope, receive, send):
        await send(START)
        await send(body(b"one", more=True))
        await gate.wait()
        await send(body(b"two", more=True))
        await send(body(b"", more=False))

    adapter = served(application)
    response = adapter.execute(get())
    assert (response.body, response.pieces.size) == (b"one", None)
    assert b"Content-Length" not in response.headers
    pieces = iter(response.pieces)
    assert next(pieces) == b""
    told: list = []
    response.pieces.later.when_more(lambda: told.append(next(pieces)))
    gate.set()
    run_until(adapter, lambda: told)
    assert told == [b"two"]
    assert list(pieces) == []


def test_send_awaits_a_client_that_does_not_keep_up(served):
    sent: list = []

    async def application(scope, receive, send):
        await send(START)
        for number in range(5):
            await send(body(bytes(HIGH_WATER_BYTES + 1), more=number < 4))
            sent.append(number)

    adapter = served(application)
    response = adapter.execute(get())
    assert sent == [0]  # with the head; the next waits
    pieces = iter(response.pieces)
    for number in range(1, 5):
        assert len(next(pieces)) == HIGH_WATER_BYTES + 1
        run_until(adapter, lambda number=number: len(sent) > number)  # the last one waits for nobody
    assert list(pieces) == []


def test_response_that_is_handed_off_is_collected(served, monkeypatch):
    async def application(scope, receive, send):
        await send(START)
        for number in range(3):
            await asyncio.sleep(0)
            await send(body(b"x" * 100_000, more=number < 2))

    adapter = served(application, hands_off=True)
    _, came = later(adapter)
    run_until(adapter, lambda: came)
    assert (len(came[0].body), came[0].pieces) == (300_000, None)
    monkeypatch.setattr(adapter_module, "MAX_COLLECTED_BYTES", 200_000)
    _, came = later(adapter)
    run_until(adapter, lambda: came)
    assert came[0].code == "500"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", [200, 204, 304])
def test_response_without_a_body_has_none(served, method, status):
    response = served(sends(START | {"status": status}, body(b"abc"))).execute(get(method))
    has_body = method == "GET" and status == 200
    assert (response.code, response.body) == (str(status), b"abc" if has_body else b"")
    assert (b"Content-Length: 3" in response.headers) == (status != 204)


def test_large_last_piece_behind_a_first_leaves_no_task(served):
    async def application(scope, receive, send):
        await send(START)
        await send(body(b"x", more=True))
        await send(body(bytes(2 * HIGH_WATER_BYTES)))

    adapter = served(application)
    assert len(adapter.execute(get()).body) == 2 * HIGH_WATER_BYTES + 1
    assert adapter.finish()


def test_two_tasks_of_a_request_await_the_same_client(served):
    ended = []

    async def application(scope, receive, send):
        async def more():
            await send(body(bytes(HIGH_WATER_BYTES + 1), more=True))
            ended.append(True)

        await send(START)
        await send(body(b"x", more=True))
        await asyncio.gather(more(), more())
        await send(body(b""))

    adapter = served(application)
    response = adapter.execute(get())
    pieces = iter(response.pieces)
    run_until(adapter, lambda: ended or response.pieces._queued > 2 * HIGH_WATER_BYTES)
    assert len(next(pieces)) == 2 * HIGH_WATER_BYTES + 2
    run_until(adapter, lambda: len(ended) == 2)


def test_streamed_response_to_head_runs_to_its_end(served):
    """Its client is there, and has all that it gets: the application is not told otherwise."""
    ended = []

    async def application(scope, receive, send):
        await send(START)
        for _ in range(3):
            await send(body(b"x", more=True))
        await send(body(b""))
        ended.append(await receive())

    adapter = served(application)
    assert adapter.execute(get("HEAD")).pieces is None
    run_until(adapter, lambda: ended)


def test_endless_response_to_head_ends(served, monkeypatch, caplog):
    monkeypatch.setattr(asgi_exchange, "GRACE_SECONDS", 0.0)
    ended: list = []

    async def application(scope, receive, send):
        try:
            await send(START)
            while True:
                await send(body(b"x", more=True))
        finally:
            ended.append(True)

    adapter = served(application)
    assert adapter.execute(get("HEAD")).pieces is None
    run_until(adapter, lambda: ended)
    assert not caplog.records


def test_fields_of_the_connection_are_the_servers(served):
    fields = [(b"Connection", b"close"), (b"transfer-encoding", b"chunked"), (b"DATE", b"x"), (b"X-A", b"b")]
    response = served(sends(START | {"headers": fields}, body(b""))).execute(get())
    assert response.headers == b"X-A: b\r\nContent-Length: 0\r\n"


# What is wrong.


@pytest.mark.parametrize(
    "events",
    [
        [body(b"")],
        [START, START],
        [START | {"status": 100}],
        [START | {"headers": [(b"a b", b"c")]}],
        [START | {"headers": [(b"a", b"b\r\nc: d")]}],
        [START | {"headers": [(b"content-length", b"5")]}, body(b"four")],
        [START | {"headers": [(b"content-length", b"3")]}, body(b"four")],
        [START, {"type": "http.response.body", "body": "text"}],
        [START],
        [],
    ],
)
def test_wrong_events_are_a_500_and_logged(served, caplog, events):
    response = served(sends(*events)).execute(get())
    assert (response.code, response.worker) == ("500", b"0")
    assert "worker 0: the application" in caplog.text


def test_body_behind_the_last_raises_in_the_application(served):
    raised: list = []

    async def application(scope, receive, send):
        await send(START)
        await send(body(b"whole"))
        try:
            await send(body(b"more"))
        except RuntimeError as error:
            raised.append(error)

    assert served(application).execute(get()).body == b"whole"
    assert len(raised) == 1


@pytest.mark.parametrize("late", [False, True])
def test_exception_before_the_body_is_a_500_with_a_traceback(served, caplog, late):
    async def application(scope, receive, send):
        await send(START)
        if late:
            await asyncio.sleep(0)
        raise ValueError("boom")

    adapter = served(application)
    if late:
        _, came = later(adapter)
        run_until(adapter, lambda: came)
        response = came[0]
    else:
        response = adapter.execute(get())
    assert response.code == "500"
    assert "ValueError: boom" in caplog.text
    assert "Traceback" in caplog.text


def test_exception_in_the_middle_cuts_the_response_short(served, caplog):
    async def application(scope, receive, send):
        await send(START)
        await send(body(b"one", more=True))
        await asyncio.sleep(0)
        raise ValueError("boom")

    adapter = served(application)
    response = adapter.execute(get())
    told: list = []
    response.pieces.when_more(lambda: told.append(True))
    run_until(adapter, lambda: told)
    with pytest.raises(CutShortError):
        list(response.pieces)
    assert "ValueError: boom" in caplog.text


def test_exception_behind_the_response_is_logged(served, caplog):
    async def application(scope, receive, send):
        await send(START)
        await send(body(b"whole"))
        raise ValueError("afterwards")

    assert served(application).execute(get()).body == b"whole"
    assert "ValueError: afterwards" in caplog.text


def test_websocket_and_memcached_are_refused(served, caplog):
    adapter = served(sends(START, body(b"")))
    response = adapter.execute(Request("GET", b"/", {b"sec-websocket-key": b"dGhlIHNhbXBsZSBub25jZQ=="}))
    assert (response.code, response.body) == ("501", NO_WEBSOCKET)
    assert "WebSocket" in caplog.text
    assert adapter.execute(get()).code == "200"
    assert adapter.execute(Command("get")).code == "SERVER_ERROR"


def test_body_without_room_is_refused(served):
    request = get("POST")
    request.reader = Spool(1)
    request.reader.failed = True
    assert served(sends(START, body(b""))).execute(request).code == "507"


def test_tasks_are_bounded(served, monkeypatch):
    async def application(scope, receive, send):
        await receive()
        await receive()

    monkeypatch.setattr(asgi, "MAX_TASKS", 2)
    adapter = served(application)
    exchanges = [adapter.execute(get()) for _ in range(2)]
    assert adapter.execute(get()).code == "503"
    exchanges[0].end_of_input()
    run_until(adapter, lambda: not isinstance(adapter.execute(get()), Response))


# Clients that go away.


def test_client_that_goes_away_ends_send_and_receive(served, caplog):
    raised: list = []

    async def application(scope, receive, send):
        await receive()
        raised.append(await receive())
        try:
            await send(START)
        except OSError as error:
            raised.append(error)
            raise

    adapter = served(application)
    exchange, came = later(adapter)
    exchange.cancel()
    run_until(adapter, lambda: len(raised) == 2)
    adapter.shared.loop.ready(0)
    assert raised[0] == {"type": "http.disconnect"}
    assert not came
    assert "Traceback" not in caplog.text


def test_task_that_goes_on_without_a_client_is_cancelled(served, monkeypatch):
    monkeypatch.setattr(asgi_exchange, "GRACE_SECONDS", 0.001)
    cancelled: list = []

    async def application(scope, receive, send):
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    adapter = served(application)
    exchange, _ = later(adapter)
    exchange.cancel()
    run_until(adapter, lambda: cancelled and not adapter.shared.abandoned)


def test_clients_that_go_away_in_masses_leave_a_bounded_number_of_tasks(served, monkeypatch):
    monkeypatch.setattr(asgi_exchange, "MAX_ABANDONED", 3)

    async def application(scope, receive, send):
        await asyncio.sleep(3600)

    adapter = served(application)
    for _ in range(10):
        later(adapter)[0].cancel()
    run_until(adapter, lambda: len(adapter.shared.abandoned) == 3)


def test_work_behind_the_response_goes_on_without_the_client(served):
    done: list = []

    async def application(scope, receive, send):
        await send(START)
        await send(body(b"x"))
        await asyncio.sleep(0.001)
        done.append(True)

    adapter = served(application)
    assert adapter.execute(get()).body == b"x"
    assert not adapter.finish()
    run_until(adapter, lambda: done)


def test_sender_of_pieces_is_cancelled_with_its_connection(served, monkeypatch):
    monkeypatch.setattr(asgi_exchange, "GRACE_SECONDS", 0.001)
    ended: list = []

    async def application(scope, receive, send):
        try:
            await send(START)
            while True:
                await send(body(bytes(100_000), more=True))
        except OSError:
            ended.append(True)

    adapter = served(application)
    adapter.execute(get()).pieces.close()
    run_until(adapter, lambda: ended)


# The loop.


def test_application_has_a_task_a_loop_and_a_context_of_its_own(served):
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
    seen: list = []

    async def application(scope, receive, send):
        assert asyncio.current_task().get_coro() is not None
        assert asyncio.get_running_loop().is_running()
        seen.append(variable.get())
        variable.set(1)
        await asyncio.sleep(0)
        seen.append(variable.get())
        await send(START)
        await send(body(b""))

    def begin_the_next(response: Response) -> None:
        assert response.code == "200"
        if len(seen) < 6:
            adapter.execute(get()).then(begin_the_next)

    adapter = served(application)
    adapter.execute(get()).then(begin_the_next)
    run_until(adapter, lambda: len(seen) == 6)
    assert seen == [0, 1] * 3


# Lifespan.


def lifespan(steps: list, *, startup: dict | None = None, shutdown: dict | None = None):
    """An application with a lifespan, which notes what happens."""

    async def application(scope, receive, send):
        if scope["type"] == "http":
            steps.append(scope["state"])
            await send(START)
            await send(body(b""))
            return
        steps.append((await receive())["type"])
        scope["state"]["pool"] = 1
        await send(startup or {"type": "lifespan.startup.complete"})
        steps.append((await receive())["type"])
        await send(shutdown or {"type": "lifespan.shutdown.complete"})

    return application


def test_lifespan_starts_hands_its_state_over_and_shuts_down(served):
    steps: list = []
    adapter = served(lifespan(steps), has_lifespan=True)
    adapter.execute(get())
    assert steps == ["lifespan.startup", {"pool": 1}]
    run_until(adapter, adapter.finish)
    assert steps[2:] == ["lifespan.shutdown"]


def test_startup_that_fails_says_why(served, caplog):
    failed = {"type": "lifespan.startup.failed", "message": "Traceback ...\nOSError: no database\n"}
    with pytest.raises(LoadError, match="--app shop:app: its startup failed: OSError: no database"):
        served(lifespan([], startup=failed), has_lifespan=True)


def test_shutdown_that_fails_is_logged(served, caplog):
    adapter = served(lifespan([], shutdown={"type": "lifespan.shutdown.failed", "message": "no"}), has_lifespan=True)
    run_until(adapter, adapter.finish)
    assert "its shutdown failed: no" in caplog.text


@pytest.mark.parametrize("how", ["raises", "returns", "responds"])
def test_application_without_a_lifespan_is_served(served, caplog, how):
    async def application(scope, receive, send):
        if scope["type"] == "lifespan" and how == "returns":
            return
        assert how == "responds" or scope["type"] == "http"
        await sends(START, body(b""), scopes=scopes)(scope, receive, send)

    scopes: list = []
    caplog.set_level(logging.INFO)
    adapter = served(application, has_lifespan=True)
    assert adapter.execute(get()).code == "200"
    assert "state" not in scopes[-1]
    assert adapter.finish()
    assert ("no lifespan" in caplog.text) == (how != "returns")
