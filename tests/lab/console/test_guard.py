"""Requests of other pages are refused, whatever they ask for."""

from __future__ import annotations

import asyncio

import pytest

from lab.console.guard import Guard, refusal


def headers(**given):
    return {name.encode(): value.encode() for name, value in given.items()}


@pytest.mark.parametrize(
    "given",
    [
        {"host": "127.0.0.1:8080"},
        {"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:8080"},
        {"host": "localhost:8080", "origin": "http://localhost:8080"},
        {"host": "[::1]:8080", "origin": "http://[::1]:8080"},
        {"host": "192.168.1.7", "origin": "http://192.168.1.7"},
        {"host": "classroom:8080", "origin": "http://classroom:8080"},
    ],
)
def test_own_pages_may_speak(given):
    assert refusal(headers(**given), {"classroom"}) == ""


NAMES, PORTS = {"lab.example", "robot-8080.app.example"}, {8080}


@pytest.mark.parametrize(
    "given",
    [
        {"host": "127.0.0.1:8080", "origin": "https://lab.example"},  # nginx by default: it calls us by our address
        {"host": "127.0.0.1:8080", "origin": "http://lab.example:8123"},
        {"host": "lab.example", "origin": "https://lab.example"},  # Host is passed on, TLS ends before us
        {"host": "localhost:8080", "origin": "https://robot-8080.app.example"},
        {"host": "robot-8080.app.example", "origin": "http://localhost:8080"},  # only Origin is rewritten
        {"host": "localhost:8080", "origin": "http://localhost:8080"},  # both are
    ],
)
def test_page_behind_a_forwarder_may_speak_under_an_allowed_name(given):
    assert refusal(headers(**given), NAMES, PORTS) == ""


@pytest.mark.parametrize(
    "given",
    [
        {"host": "127.0.0.1:8080", "origin": "https://evil.example"},
        {"host": "127.0.0.1:8080", "origin": "https://lab.example.evil.example"},
        {"host": "127.0.0.1:8080", "origin": "app://lab.example"},
        {"host": "127.0.0.1:8080", "origin": "http://localhost:8080"},
        {"host": "robot-8080.app.example", "origin": "http://localhost:3000"},  # another page of this machine
        {"host": "robot-8080.app.example", "origin": "http://[::1"},
        {"host": "evil.example", "origin": "https://lab.example"},
    ],
)
def test_allowed_names_let_nobody_else_in(given):
    assert refusal(headers(**given), NAMES, PORTS)


def test_refusal_names_what_to_allow_and_where():
    by_origin = refusal(headers(host="127.0.0.1:8080", origin="https://lab.example:8123"))
    by_host = refusal(headers(host="lab.example:8123"))
    for reason in (by_origin, by_host):
        assert "add lab.example to LAB_CONSOLE_NAMES" in reason


def test_names_are_names_whatever_their_case():
    for name in ("classroom", "Classroom"):
        assert pass_on(Guard(reached, {name}), headers(host="CLASSROOM:8080")) == [200]
    assert pass_on(Guard(reached, {"Classroom"}), headers(host="classroom.evil.example")) == [403]


async def reached(_scope, _receive, send):
    await send({"type": "http.response.start", "status": 200})


def pass_on(guard, given):
    """The status of what a request with these headers is answered."""
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(guard({"type": "http", "headers": list(given.items())}, None, send))
    return [message["status"] for message in sent if message["type"] == "http.response.start"]


@pytest.mark.parametrize(
    "given",
    [
        {"host": "evil.example:8080"},  # DNS rebinding
        {"host": "evil.example:8080", "origin": "http://evil.example:8080"},
        {"host": "127.0.0.1.evil.example:8080"},
        {"host": "127.0.0.1:8080", "origin": "http://evil.example"},  # cross-site
        {"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:8001"},  # another server of this machine
        {"host": "127.0.0.1:8080", "origin": "http://localhost:8080"},
        {"host": "127.0.0.1:8080", "origin": "null"},  # a sandboxed frame, a file
        {"host": "[::1"},
        {"host": ""},
        {},
    ],
)
def test_other_pages_and_other_names_are_refused(given):
    assert refusal(headers(**given), {"classroom"})


@pytest.mark.parametrize(("kind", "answer"), [("http", "http.response.start"), ("websocket", "websocket.close")])
def test_refused_request_never_reaches_the_page(kind, answer):
    sent = []

    async def page(*_):
        pytest.fail("it was passed on")

    async def receive():
        return {"type": f"{kind}.connect"}

    async def send(message):
        sent.append(message)

    scope = {"type": kind, "headers": list(headers(host="127.0.0.1", origin="http://evil.example").items())}
    asyncio.run(Guard(page)(scope, receive, send))
    assert sent[0]["type"] == answer
    assert sent[0].get("status") in {403, None}
