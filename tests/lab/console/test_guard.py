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
