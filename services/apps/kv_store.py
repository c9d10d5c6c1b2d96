"""`/kv/{key}`: the key-value data over HTTP, the same that memcached's commands see.

PUT is an upsert: however often it is repeated, the same value is stored. Flags are 0 and nothing
expires; over memcached an item may have both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.apps.parameters import path_variable
from services.messages import Request, Response

if TYPE_CHECKING:
    from services.apps.store import Store

BYTES = b"application/octet-stream"
_ABSENT = b"there is nothing under this key\n"


ANNOUNCES_BODY = frozenset({b"content-length", b"transfer-encoding"})
"""A request with neither has no body (RFC 9112, 6.3), and an empty value is not what its sender meant."""


class KeyValueRoutes:
    """GET, PUT and DELETE of one key."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, _request: Request, key: bytes) -> Response:
        """200 with the value, byte for byte, or 404."""
        item = self._store.item(path_variable(key, "key"))
        if item is None:
            return Response("404", _ABSENT)
        return Response("200", item.value, BYTES)

    def put(self, request: Request, key: bytes) -> Response:
        """201 where the key is new, 204 where it was not, 411 without a body."""
        key = path_variable(key, "key")
        if request.headers.keys().isdisjoint(ANNOUNCES_BODY):
            return Response("411", b"give the value as the request's body\n")
        with self._store.transaction() as transaction:
            known = transaction.item(key)
            transaction.put_item(key, request.body)
        return Response("204") if known else Response("201")

    def delete(self, _request: Request, key: bytes) -> Response:
        """204 where there was something to delete, 404 otherwise: in both cases nothing is there now."""
        key = path_variable(key, "key")
        with self._store.transaction() as transaction:
            known = transaction.item(key)
            transaction.delete_item(key)
        return Response("204") if known else Response("404", _ABSENT)
