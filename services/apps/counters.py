"""`/counters/{name}`: the effect that must not happen twice.

A counter is a signed 64-bit number; bodies are that number as plain text and a line feed. POST adds
to it, so a repeated POST adds again, unless an idempotency strategy recognises it. PUT of
`/counters/{name}/increments/{id}` is the same effect under a name that the client chose: the second
PUT finds the name taken and changes nothing, whatever its `by` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.apps.parameters import integer, path_variable, query_of
from services.apps.work import Work, work_in
from services.messages import Request, Response

if TYPE_CHECKING:
    from services.apps.idempotency import Strategy, Upsert
    from services.apps.store import Store, Transaction

SMALLEST, LARGEST = -(1 << 63), (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Increment:
    """The effect: add `by` to the counter `scope`, after some simulated work."""

    scope: bytes
    by: int
    work: Work

    def apply(self, transaction: Transaction) -> Response:
        """The counter's new value; 400, and no change, where it would leave the 64 bits."""
        value = transaction.counter(self.scope) + self.by
        if not SMALLEST <= value <= LARGEST:
            return Response("400", b"the counter would leave the range of a signed 64-bit number\n")
        transaction.set_counter(self.scope, value)
        return _number(value)

    def present(self, transaction: Transaction) -> Response:
        """Respond to an increment that has been made before: with the value as it is now."""
        return _number(transaction.counter(self.scope))


class CounterRoutes:
    """GET and POST of a counter, PUT of an increment."""

    def __init__(self, store: Store, strategy: Strategy, upsert: Upsert) -> None:
        self._store = store
        self._strategy = strategy
        self._upsert = upsert

    def get(self, _request: Request, name: bytes) -> Response:
        """The value; 0 for a counter that nobody has added to."""
        return _number(self._store.counter(path_variable(name, "name")))

    def post(self, request: Request, name: bytes) -> Response:
        """Adds 1, or `?by=N`. `?cpu=` and `?block=` as in /work come between recognising and applying."""
        return self._strategy(request, _increment(request, name))

    def put_increment(self, request: Request, name: bytes, identity: bytes) -> Response:
        """Adds once for each id."""
        return self._upsert.apply_once(path_variable(identity, "id"), _increment(request, name))


def _increment(request: Request, name: bytes) -> Increment:
    query = query_of(request.target)
    return Increment(path_variable(name, "name"), integer(query, "by", 1, SMALLEST, LARGEST), work_in(query))


def _number(value: int) -> Response:
    return Response("200", b"%d\n" % value)
