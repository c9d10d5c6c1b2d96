"""Four ways to meet a repeated POST, with one interface: `strategy(request, effect) -> response`.

    none             every POST is applied
    request-id       look up, apply, then remember: a duplicate that comes meanwhile slips through
    upsert           the effect has a name, and a UNIQUE constraint lets a name in once
    idempotency-key  reserve the key, apply, and store the response: duplicates are told to wait, or replayed

The rules of `idempotency-key` are those of draft-ietf-httpapi-idempotency-key-header-07: another
payload under the same key 422, still running 409, missing where it is required 400; a repeat gets the
stored status and body, success or error, with `Idempotent-Replayed: true`.

Exactly once, across kill -9: the effect and the record of its response are one transaction. Where
work comes first, the key is reserved by a transaction of its own, and a worker that dies in between
leaves the reservation behind. So a reservation is a lease: LEASE_SECONDS plus twice the work asked
for, at most 245 s. Then a retry may take it over. Should the first worker still be alive, only slow,
it finds someone else's token in the record, and does not apply.

Outcomes are counted one a request, but for `expired`: it is counted beside the `applied` that
follows, when a key comes back after its time (and has not been swept away before). `evicted` is counted
beside it too, once for each record or increment that made room: exactly once holds for as long as a
record is kept: at least 10 s, at most --key-ttl.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import re
from typing import TYPE_CHECKING, NamedTuple
from typing import Protocol as Interface

from services.apps.parameters import BadRequestError
from services.apps.store import Record, StoreUnavailableError
from services.messages import Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from services.apps.store import Store, Transaction
    from services.apps.work import Work

    Outcome = Callable[[str], None]
    _Settled = tuple[str, Response]  # an outcome and the response

LEASE_SECONDS = 5.0
MAX_KEY_CHARACTERS = 255
REPLAYED = b"Idempotent-Replayed: true\r\n"

# The draft asks for a structured-field string (RFC 8941: printable ASCII in quotes, \" and \\ escaped).
# Bare keys are what most clients send; a comma is no part of one, for that is how two header lines are joined.
_QUOTED = re.compile(rb'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_BARE = re.compile(rb"[!#-+\--\[\]-~]+")
_ESCAPE = re.compile(rb'\\(["\\])')
_VISIBLE = re.compile(rb"[ -~]+")


class _Claim(NamedTuple):
    """A reservation: the first two fields of a `Record`."""

    fingerprint: bytes
    token: bytes


class Effect(Interface):
    """The change that a request asks for."""

    @property
    def scope(self) -> bytes:
        """Scope within which the names of effects are unique (`Upsert`)."""

    @property
    def work(self) -> Work:
        """The simulated work between recognising the request and applying the effect."""

    def apply(self, transaction: Transaction) -> Response:
        """Make the change; a response that is an error has changed nothing."""

    def present(self, transaction: Transaction) -> Response:
        """The response where the change was made before."""


class Strategy(Interface):
    """Decides whether a request's effect is applied, and responds to it."""

    def __call__(self, request: Request, effect: Effect, /) -> Response:
        """Respond to `request`, and apply `effect` or not."""


class ApplyAlways:
    """`none`: the control. A retry after a lost response is a second effect."""

    def __init__(self, store: Store, outcome: Outcome) -> None:
        self._store = store
        self._outcome = outcome

    def __call__(self, _request: Request, effect: Effect) -> Response:
        """Apply."""
        effect.work.perform()
        with self._store.transaction() as transaction:
            response = effect.apply(transaction)
        self._outcome("applied")
        return response


class RequestId:
    """`request-id`: three steps, each correct, that together are not atomic.

    Between looking up and remembering lies the whole effect, and a duplicate that looks up in that
    time finds nothing. That is what this strategy is here to show.
    """

    def __init__(self, store: Store, outcome: Outcome, ttl_seconds: float) -> None:
        self._store = store
        self._outcome = outcome
        self._ttl_seconds = ttl_seconds
        self._apply = ApplyAlways(store, outcome)

    def __call__(self, request: Request, effect: Effect) -> Response:
        """Look up, apply, then remember."""
        identity = _request_id(request)
        if identity is None:
            return self._apply(request, effect)
        known = self._store.record(identity)
        if known is not None and known.expires > self._store.clock():
            self._outcome("replayed")
            return _replay(known)
        if known is not None:
            self._outcome("expired")
        response = self._apply(request, effect)
        # The effect is made: a store that has no room now is no reason to tell the client to try again.
        with contextlib.suppress(StoreUnavailableError), self._store.transaction() as transaction:
            expires = self._store.clock() + self._ttl_seconds
            transaction.put_record(identity, Record(b"", b"", expires, response.code, response.body))
            evicted = transaction.take_evicted()
        _count_evicted(self._outcome, evicted)
        return response


class Upsert:
    """`upsert`: INSERT … ON CONFLICT DO NOTHING under a UNIQUE constraint, in the effect's transaction.

    `PUT /counters/{name}/increments/{id}` works this way under every strategy. Under this one, a POST
    with an Idempotency-Key is the same thing with the key as the id; without one it is applied.
    """

    def __init__(self, store: Store, outcome: Outcome, ttl_seconds: float = 86400.0) -> None:
        self._store = store
        self._outcome = outcome
        self._ttl_seconds = ttl_seconds
        self._apply = ApplyAlways(store, outcome)

    def __call__(self, request: Request, effect: Effect) -> Response:
        """Apply once for each key."""
        key = _idempotency_key(request)
        return self._apply(request, effect) if key is None else self.apply_once(key, effect)

    def apply_once(self, name: bytes, effect: Effect) -> Response:
        """Apply the effect, unless one of this name has been applied in the same scope."""
        effect.work.perform()
        try:
            with self._store.transaction() as transaction:
                if not transaction.claim(effect.scope, name, self._ttl_seconds):
                    outcome, response = "replayed", effect.present(transaction)
                else:
                    outcome, response = "applied", _apply_or_undo(effect, transaction)
                evicted = transaction.take_evicted()
        except _RefusedError as refused:
            return refused.response
        _count_evicted(self._outcome, evicted)
        self._outcome(outcome)
        return response


class IdempotencyKey:
    """`idempotency-key`: the IETF draft."""

    def __init__(self, store: Store, outcome: Outcome, ttl_seconds: float, require_key: bool) -> None:
        self._store = store
        self._outcome = outcome
        self._ttl_seconds = ttl_seconds
        self._require_key = require_key
        self._apply = ApplyAlways(store, outcome)

    def __call__(self, request: Request, effect: Effect) -> Response:
        """Reserve the key, apply, and store the response; or respond by what is known of the key."""
        key = _idempotency_key(request)
        if key is None:
            return self._without_key(request, effect)
        claim = _Claim(_fingerprint(request), os.urandom(8))
        expired = False
        with self._store.transaction() as transaction:
            known = transaction.record(key)
            if known is not None and known.expires > self._store.clock():
                settled: _Settled | None = _respond_by_record(known, claim.fingerprint, self._store.clock())
            else:
                # A record without a code is a lease that ran out: taken over, not expired.
                expired = known is not None and known.code != ""
                settled = self._begin(transaction, key, claim, effect)
            evicted = transaction.take_evicted()
        _count_evicted(self._outcome, evicted)
        if expired:
            self._outcome("expired")
        outcome, response = settled or self._work_and_finish(key, claim, effect)
        self._outcome(outcome)
        return response

    def _without_key(self, request: Request, effect: Effect) -> Response:
        if not self._require_key:
            return self._apply(request, effect)
        self._outcome("missing")
        return Response("400", b"this request must carry an Idempotency-Key header, which no other request has used\n")

    def _begin(self, transaction: Transaction, key: bytes, claim: _Claim, effect: Effect) -> _Settled | None:
        """Reserve the key; and where there is nothing to wait for, apply the effect in the same transaction."""
        lease = LEASE_SECONDS + 2 * effect.work.seconds
        transaction.put_record(key, Record(*claim, self._store.clock() + lease))
        if effect.work.seconds:
            return None
        return "applied", self._finish(transaction, key, claim, effect)

    def _work_and_finish(self, key: bytes, claim: _Claim, effect: Effect) -> _Settled:
        effect.work.perform()
        with self._store.transaction() as transaction:
            present = transaction.record(key)
            if present is not None and present.token != claim.token:
                # Someone took the lease over, and may have finished: a late worker responds with what is stored.
                return _respond_by_record(present, claim.fingerprint, self._store.clock())
            if present is None:
                return "conflict", _still_running(1)
            return "applied", self._finish(transaction, key, claim, effect)

    def _finish(self, transaction: Transaction, key: bytes, claim: _Claim, effect: Effect) -> Response:
        response = effect.apply(transaction)
        expires = self._store.clock() + self._ttl_seconds
        transaction.put_record(key, Record(*claim, expires, response.code, response.body))
        return response


def make_strategy(name: str, store: Store, outcome: Outcome, options: Mapping[str, object]) -> Strategy:
    """The strategy of that name (`--idempotency`), set up by `key_ttl` (seconds) and `require_key`."""
    ttl_seconds = float(str(options.get("key_ttl", 86400.0)))
    strategies: dict[str, Callable[[], Strategy]] = {
        "none": lambda: ApplyAlways(store, outcome),
        "request-id": lambda: RequestId(store, outcome, ttl_seconds),
        "upsert": lambda: Upsert(store, outcome, ttl_seconds),
        "idempotency-key": lambda: IdempotencyKey(store, outcome, ttl_seconds, bool(options.get("require_key", False))),
    }
    return strategies[name]()


class _RefusedError(Exception):
    """The effect could not be applied, so its name must not stay claimed: undoes the transaction."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.code)
        self.response = response


def _count_evicted(outcome: Outcome, evicted: int) -> None:
    for _ in range(evicted):
        outcome("evicted")


def _apply_or_undo(effect: Effect, transaction: Transaction) -> Response:
    response = effect.apply(transaction)
    if not response.code.startswith("2"):
        raise _RefusedError(response)
    return response


def _respond_by_record(known: Record, fingerprint: bytes, now: float) -> _Settled:
    if known.fingerprint != fingerprint:
        return "mismatch", Response("422", b"this Idempotency-Key was used for another request\n")
    if not known.code:
        return "conflict", _still_running(known.expires - now)
    return "replayed", _replay(known)


def _replay(record: Record) -> Response:
    return Response(record.code, record.body, headers=REPLAYED)


def _still_running(seconds: float) -> Response:
    """Return the 409. Its Retry-After is the end of the lease: by then the key has a response, or is free."""
    text = b"a request with this Idempotency-Key is still running\n"
    return Response("409", text, headers=retry_after(seconds))


def retry_after(seconds: float) -> bytes:
    """Return the header line, in whole seconds, rounded up, at least 1."""
    return b"Retry-After: %d\r\n" % max(1, math.ceil(seconds))


def _fingerprint(request: Request) -> bytes:
    digest = hashlib.sha256(b"%b %b\n" % (request.method.encode(), request.target))
    digest.update(request.body)
    return digest.digest()


def _idempotency_key(request: Request) -> bytes | None:
    """The header's value, quoted or bare; both name the same key. None where there is no header."""
    text = request.headers.get(b"idempotency-key")
    if text is None:
        return None
    quoted = _QUOTED.fullmatch(text)
    key = _ESCAPE.sub(rb"\1", quoted[1]) if quoted else text
    if not (quoted or _BARE.fullmatch(text)) or not 0 < len(key) <= MAX_KEY_CHARACTERS:
        raise BadRequestError(
            f"Idempotency-Key must be 1 to {MAX_KEY_CHARACTERS} printable ASCII characters, best in quotes"
        )
    return key


def _request_id(request: Request) -> bytes | None:
    """The X-Request-Id, kept apart from idempotency keys; None where there is no header."""
    text = request.headers.get(b"x-request-id")
    if text is None:
        return None
    if not _VISIBLE.fullmatch(text) or len(text) > MAX_KEY_CHARACTERS:
        raise BadRequestError(f"X-Request-Id must be 1 to {MAX_KEY_CHARACTERS} printable ASCII characters")
    return b"\0request-id:" + text
