"""Rules of memcached's items: when they expire, how numbers count, and the marks that meta commands leave.

The real one keeps marks with an item: it is stale, a client was asked to fetch it anew, it has been read. Both of
our stores carry an item's flags as a number of 64 bits, of which clients use 32; marks are in the upper ones, so that
plain commands pay nothing for them. The time of the last access is there, too, cut to 27 bits of a second (four
years), and is written only by the commands that ask for it: a plain `get` stays a read.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from services.apps.store import NEVER
from services.strtol import TWO_TO_32, TWO_TO_64

if TYPE_CHECKING:
    from services.apps.store import Item

RELATIVE_LIMIT_SECONDS = 30 * 24 * 3600
"""An expiry time up to here counts from now; a larger one is a time of day (protocol.txt)."""

STALE, TOKEN_SENT, FETCHED, BINARY_KEY, STAMPED = (1 << bit for bit in range(32, 37))
_STAMP_BIT = 37
_STAMPS = 1 << 26


def expires_at(exptime: int, now: float) -> float:
    """The time of the store's clock that memcached's `exptime` means; a negative one is now, so already over."""
    if exptime == 0:
        return NEVER
    if exptime > RELATIVE_LIMIT_SECONDS:
        return float(exptime)
    return now + max(exptime, 0)


def seconds_left(item: Item, now: float) -> int:
    """Seconds until `item` expires; -1 for never."""
    return -1 if item.expires == NEVER else math.ceil(item.expires - now)


def added(number: int, delta: int, *, down: bool) -> bytes:
    """`incr` goes round at 2^64, `decr` stops at 0."""
    result = max(number - delta, 0) if down else (number + delta) % TWO_TO_64
    return b"%d" % result


def client_flags(item: Item) -> int:
    """The flags that a client has set."""
    return item.flags % TWO_TO_32


def stamped(flags: int, now: float) -> int:
    """The flags and marks, with the time of this access."""
    return flags % (1 << _STAMP_BIT) | STAMPED | int(now) % _STAMPS << _STAMP_BIT


def seconds_since_access(item: Item, now: float) -> int:
    """Seconds since the last access that left its time; 0 where none has."""
    if not item.flags & STAMPED:
        return 0
    return (int(now) - (item.flags >> _STAMP_BIT)) % _STAMPS
