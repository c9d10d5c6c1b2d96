"""Guard of the page: only pages of its own may call it, opened under an address that is its own.

A browser is willing to send requests of any page on the web to 127.0.0.1. The `Origin` of such a request is that page,
so it must be this one. A page on the web can also give its own name our address (DNS rebinding): then the origin is the
same, but `Host` is a name that nobody gave us. Addresses cannot be rebound, so any of them is good.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.types import ASGIApp, Receive, Scope, Send

FORBIDDEN = 403
HEADERS = (
    (b"content-security-policy", b"frame-ancestors 'none'; object-src 'none'; base-uri 'self'; form-action 'self'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
"""Nobody may show the page in a frame and have its buttons clicked there."""


class Guard:
    """An ASGI middleware, for requests and for WebSockets."""

    def __init__(self, app: ASGIApp, names: Collection[str] = ()) -> None:
        self._app = app
        self._names = frozenset(name.lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is allowed."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
        elif reason := refusal(dict(scope["headers"]), self._names):
            await refuse(scope["type"], reason, receive, send)
        else:
            await self._app(scope, receive, with_headers(send))


def refusal(headers: dict[bytes, bytes], names: Collection[str] = ()) -> str:
    """Return why a request with these headers is refused; empty if it is not."""
    host = headers.get(b"host", b"").decode("latin-1").lower()
    if not is_ours(host, names):
        return f"this page is not called {host!r}: open it by its address, or start it with --name"
    origin = headers.get(b"origin", b"").decode("latin-1").lower()
    if origin and urlsplit(origin).netloc != host:
        return f"a page of {origin} may not speak to this one"
    return ""


def is_ours(host: str, names: Collection[str]) -> bool:
    """Return whether `host`, with or without a port, is an address, localhost, or one of our names."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost" or name in names:
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


async def refuse(kind: str, reason: str, receive: Receive, send: Send) -> None:
    """Answer 403 with the reason; a WebSocket is closed before it is open, which is a 403 too."""
    if kind == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": reason})
        return
    body = f"{reason}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": FORBIDDEN, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def with_headers(send: Send) -> Send:
    """The same, with `HEADERS` on every response."""

    async def send_with_headers(message: dict[str, object]) -> None:
        if message["type"] == "http.response.start":
            given = message.get("headers") or ()
            message = {**message, "headers": [*given, *HEADERS]}  # type: ignore[misc]
        await send(message)

    return send_with_headers  # type: ignore[return-value]
