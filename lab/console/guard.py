"""Guard of the page: only pages of its own may call it, opened under an address that is its own.

A browser is willing to send requests of any page on the web to 127.0.0.1. The `Origin` of such a request is that page,
so it must be this one. A page on the web can also give its own name our address (DNS rebinding): then the origin is the
same, but `Host` is a name that nobody gave us. Addresses cannot be rebound, so any of them is good.

A forwarder (nginx, a codespace, a tunnel) has a name of its own, and each treats the two headers in its own way:

    the browser has sent         what arrives here
    Host lab.example             lab.example (passed on), or 127.0.0.1:8080 (where the forwarder calls us)
    Origin https://lab.example   the same (passed on), or http://localhost:8080 (rewritten, but not always both)

So an origin is also good if its name is one that was allowed, at any port; and if it is our own port of localhost while
`Host` is such a name. Without that the page would load, since a plain GET has no `Origin`, but neither its socket nor,
with Chromium, its scripts.
"""

from __future__ import annotations

import contextlib
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lab import settings

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

    def __init__(self, app: ASGIApp, names: Collection[str] = (), ports: Collection[int] = ()) -> None:
        """`names` are allowed besides localhost and addresses; `ports` are those that browsers on this machine use."""
        self._app = app
        self._names = frozenset(name.lower() for name in names)
        self._ports = frozenset(ports)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is allowed."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
        elif reason := refusal(dict(scope["headers"]), self._names, self._ports):
            await refuse(scope["type"], reason, receive, send)
        else:
            await self._app(scope, receive, with_headers(send))


def refusal(headers: dict[bytes, bytes], names: Collection[str] = (), ports: Collection[int] = ()) -> str:
    """Return why a request with these headers is refused; empty if it is not."""
    host, origin = (headers.get(name, b"").decode("latin-1").lower() for name in (b"host", b"origin"))
    _, name, _ = parts_of(f"//{host}")
    if not (name in names or is_local(name)):
        return f"this page is not called {host!r}: open it by its address, or {allow(name)}"
    if origin and origin not in {f"http://{host}", f"https://{host}"}:
        scheme, shown_at, port = parts_of(origin)
        rewritten = shown_at == "localhost" and port in ports and name in names
        if scheme not in {"http", "https"} or not (shown_at in names or rewritten):
            return f"a page of {origin} may not speak to this one; if a forwarder shows it there, {allow(shown_at)}"
    return ""


def allow(name: str) -> str:
    """Return how to allow a name."""
    return f"add {name or 'its name'} to LAB_CONSOLE_NAMES and start it again (`{settings.UP}`, or `lab console`)"


def parts_of(url: str) -> tuple[str, str, int | None]:
    """Return scheme, name and port; empty and None where it is no URL."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        return parts.scheme, parts.hostname or "", parts.port
    return "", "", None


def is_local(name: str) -> bool:
    """Return whether this is localhost or an address."""
    try:
        ip_address(name)
    except ValueError:
        return name == "localhost"
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
