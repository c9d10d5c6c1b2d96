"""The counts behind memcached's `stats`, and the reports that it can be asked for.

All are those of the worker that replies; the store's figures come from the store. There are no slabs here: the
reports that speak of slab classes put all items into one, number 1, and leave out what only slabs have.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from services.messages import MAX_VALUE_BYTES

if TYPE_CHECKING:
    from services.apps.store import Store

VERSION = "1.6.0-accept-lab"
"""The dialect that is spoken: clients read the numbers to know what they may send."""
COUNTS = (
    "cmd_get", "cmd_set", "cmd_flush", "cmd_touch", "cmd_meta", "get_hits", "get_misses", "delete_hits",
    "delete_misses", "incr_hits", "incr_misses", "decr_hits", "decr_misses", "cas_hits", "cas_misses", "cas_badval",
    "touch_hits", "touch_misses",
)  # fmt: skip

Figures = Mapping[str, object]


class Statistics:
    """One worker's counts. Used by that worker's thread only."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._started = store.clock()
        self.counts = dict.fromkeys(COUNTS, 0)
        self._reports: dict[bytes, Callable[[], Figures]] = {
            b"": self._general,
            b"items": self._items,
            b"slabs": lambda: {"active_slabs": 0, "total_malloced": 0},
            b"sizes": lambda: {"sizes_status": "disabled"},
            b"settings": self._settings,
            b"conns": dict,
        }

    def count_hits(self, command: str, hits: int, misses: int) -> None:
        """Count keys of a `command` (get, delete, incr, decr, touch) that were there, and keys that were not."""
        self.counts[f"{command}_hits"] += hits
        self.counts[f"{command}_misses"] += misses

    def reset(self) -> None:
        """Start from zero, as `stats reset` asks."""
        self.counts.update(dict.fromkeys(COUNTS, 0))

    def report(self, name: bytes) -> bytes:
        """The lines of a report, END included; an empty name asks for the general one."""
        figures = self._reports[name]()
        lines = "".join(f"STAT {figure} {value}\r\n" for figure, value in figures.items())
        return lines.encode() + b"END\r\n"

    def _general(self) -> Figures:
        return {
            "pid": os.getpid(),
            "uptime": int(self._store.clock() - self._started),
            "time": int(time.time()),
            "version": VERSION,
            "pointer_size": 64,
            **self.counts,
            **self._store.statistics(),
        }

    def _items(self) -> Figures:
        known = self._store.statistics()
        # The store on disk does not count its items.
        number = known.get("curr_items")
        if not number:
            return {}
        figures = {"number": number, "evicted": known["evictions"], "reclaimed": known["reclaimed"]}
        return {f"items:1:{name}": value for name, value in figures.items()}

    def _settings(self) -> Figures:
        return {
            "maxbytes": self._store.statistics()["limit_maxbytes"],
            "evictions": "on",
            "cas_enabled": "yes",
            "auth_enabled_sasl": "no",
            "item_size_max": MAX_VALUE_BYTES,
            "slab_reassign": "no",
            "flush_enabled": "yes",
            "shutdown_command": "no",
        }
