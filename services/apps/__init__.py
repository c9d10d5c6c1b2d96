"""The application that every model serves, and how it is put together; or one of the user's own (`adapt`).

store = make_store("memory", None)
handler = make_application(Identity("nginx", "0"), store, options, outcome, healthy)
response = handler(request)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from services.apps import loading
from services.apps.application import Application, Identity
from services.apps.memory_store import MemoryStore
from services.apps.spool import spooler
from services.apps.sqlite_store import SqliteStore
from services.apps.streams import open_body
from services.apps.wsgi import WsgiAdapter
from services.messages import MEBIBYTE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from services.apps.adapter import Adapter
    from services.apps.store import Store
    from services.apps.surroundings import Surroundings
    from services.messages import Handler

__all__ = ["Identity", "adapt", "make_application", "make_store", "open_body", "spooler"]


def make_store(kind: str, path: Path | None, options: Mapping[str, Any] | None = None) -> Store:
    """The store `kind`, "memory" or "sqlite". Made once in main, before workers are forked or started.

    Memory is shared by threads and copied into each forked process. SQLite keeps one file in the
    folder `path`; connections are opened by each thread of each process when it first needs one.
    `options` are the command line's: `keys_memory` and `increments_memory` (MiB).
    """
    options = options or {}
    limits = {
        f"{name}_limit_bytes": options[f"{name}_memory"] * MEBIBYTE
        for name in ("keys", "increments")
        if f"{name}_memory" in options
    }
    if kind == "memory":
        return MemoryStore(**limits)
    if kind == "sqlite" and path is not None:
        return SqliteStore(path, **limits)
    raise ValueError(f"store {kind!r} with path {path!r}: choose memory, or sqlite and a folder")


def make_application(
    identity: Identity,
    store: Store,
    options: Mapping[str, Any],
    outcome: Callable[[str], None],
    healthy: Callable[[], bool],
) -> Handler:
    """The application of one worker.

    `options` are the command line's: `idempotency`, `require_key`, `key_ttl` (seconds). `outcome(name)` counts
    one of slots.OUTCOMES; `/healthz` responds with 503 while `healthy()` is false.
    """
    return Application(identity, store, options, outcome, healthy).execute


def adapt(source: loading.Source, surroundings: Surroundings) -> Adapter:
    """Import an application of the user's own, and make it fit. Raises `loading.LoadError`."""
    found = loading.load(source)
    if found.interface == loading.WSGI:
        return WsgiAdapter(found.application, surroundings)
    from services.apps.asgi import AsgiAdapter  # asyncio is 2 MiB, which no other process should carry

    return AsgiAdapter(found.application, surroundings, str(source))
