"""From a request's method and path to the function that responds to it. Routes are data.

A pattern's `{name}` stands for one path segment, which is handed over as it came, percent-encoded:
the path is split first and decoded afterwards, so that a key may contain an encoded slash.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.messages import Request, Response

if TYPE_CHECKING:
    from collections.abc import Sequence

Respond = Callable[..., Response]
"""Called with the request and the pattern's variables."""
Methods = dict[str, Respond]


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the table: `GET`, `/kv/{key}`, and the function that responds."""

    method: str
    pattern: str
    respond: Respond


@dataclass(slots=True)
class _Node:
    """The routes below one path segment."""

    methods: Methods = field(default_factory=dict)
    children: dict[bytes, _Node] = field(default_factory=dict)
    variable: _Node | None = None


class Router:
    """Responds to a request by the routes it was given: HEAD wherever GET, OPTIONS everywhere, 404, 405."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._root = _Node()
        self._exact: dict[bytes, Methods] = {}
        self._parents: dict[bytes, Methods] = {}
        for route in routes:
            self._add(route)
        _complete(self._root)
        # `OPTIONS *` asks about the server as a whole.
        self._exact[b"*"] = {"OPTIONS": _options(sorted({route.method for route in routes} | {"HEAD", "OPTIONS"}))}
        listing = "\n".join(f"{route.method:7} {route.pattern}" for route in routes)
        self._not_found = f"there is no such route; these there are:\n{listing}\n".encode()

    def _add(self, route: Route) -> None:
        node = self._root
        for segment in route.pattern.encode().split(b"/"):
            if segment.startswith(b"{"):
                node.variable = node.variable or _Node()
                node = node.variable
            else:
                node = node.children.setdefault(segment, _Node())
        node.methods[route.method] = route.respond
        if "{" not in route.pattern:
            self._exact[route.pattern.encode()] = node.methods
        parent, _, last = route.pattern.rpartition("/")
        if last.startswith("{") and "{" not in parent:
            self._parents[parent.encode()] = node.methods

    def respond(self, request: Request) -> Response:
        """Find the route and have it respond."""
        target = request.target
        path = target.partition(b"?")[0] if b"?" in target else target
        # The whole path first, for `GET /`; then all but the last segment, for `/kv/{key}`. Each is one
        # look-up of some 0.1 µs, where the walk through the tree takes 0.8.
        methods = self._exact.get(path)
        if methods is not None and request.method in methods:
            return methods[request.method](request)
        variables: list[bytes] = []
        if methods is None:
            parent, _, last = path.rpartition(b"/")
            methods = self._parents.get(parent)
            if methods is not None:
                variables.append(last)
            else:
                methods = self._match(path_of(target), variables)
        if not methods:
            return Response("404", self._not_found)
        respond = methods.get(request.method)
        if respond is None:
            return Response("405", b"see the Allow header\n", headers=_allow(methods))
        return respond(request, *variables)

    def _match(self, path: bytes, variables: list[bytes]) -> Methods | None:
        node = self._root
        for segment in path.split(b"/"):
            if segment in node.children:
                node = node.children[segment]
            elif node.variable is not None:
                node = node.variable
                variables.append(segment)
            else:
                return None
        return node.methods


def path_of(target: bytes) -> bytes:
    """The path in a request target; that may be a whole URL, as it is sent to proxies (RFC 9112, 3.2.2)."""
    path = target.partition(b"?")[0] if b"?" in target else target
    if path.startswith(b"/") or path[:7].lower() != b"http://":
        return path
    _, slash, rest = path[7:].partition(b"/")
    return slash + rest or b"/"


def _complete(node: _Node) -> None:
    if "GET" in node.methods:
        node.methods["HEAD"] = node.methods["GET"]
    if node.methods:
        node.methods["OPTIONS"] = _options(sorted({*node.methods, "OPTIONS"}))
    for child in (*node.children.values(), *([node.variable] if node.variable else [])):
        _complete(child)


def _options(allowed: Sequence[str]) -> Respond:
    headers = f"Allow: {', '.join(allowed)}\r\n".encode()

    def respond(_request: Request, *_variables: bytes) -> Response:
        return Response("204", headers=headers)

    return respond


def _allow(methods: Methods) -> bytes:
    return f"Allow: {', '.join(sorted(methods))}\r\n".encode()
