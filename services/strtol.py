"""Numbers as memcached reads them: by C's `strtol` and `strtoull`, behind which only white space may stand.

In a line the words hold no blanks; a stored value, which `incr` reads, may hold anything.
"""

from __future__ import annotations

import re

# White space, a sign, digits. Leading zeros apart, 20 digits hold every number of 64 bits; Python refuses
# to convert thousands of them, and a repetition that never gives back (`*+`) keeps the search linear.
_NUMBER = re.compile(rb"[ \t\n\v\f\r]*+([+-]?)0*+([0-9]{0,20}+)(?<=[0-9])(?=[ \t\n\v\f\r\0]|\Z)")
_TWO_TO_31, TWO_TO_32, _TWO_TO_63, TWO_TO_64 = 1 << 31, 1 << 32, 1 << 63, 1 << 64


def unsigned_64(text: bytes) -> int | None:
    """The number that memcached's `safe_strtoull` reads; None where it refuses.

    A minus sign is taken modulo 2^64, as C does, and refused only where the result would be negative
    as a signed number: "-1" is refused, "-9223372036854775809" is 2^63 - 1.
    """
    match = _NUMBER.match(text)
    if match is None or (number := int(match[2] or b"0")) >= TWO_TO_64:
        return None
    if match[1] != b"-":
        return number
    number = -number % TWO_TO_64
    return number if number < _TWO_TO_63 else None


def signed_32(text: bytes) -> int | None:
    """The number that memcached's `safe_strtol` reads, a long cut to 32 bits; None where it refuses."""
    match = _NUMBER.match(text)
    if match is None:
        return None
    number = int(match[1] + (match[2] or b"0"))
    if not -_TWO_TO_63 <= number < _TWO_TO_63:
        return None
    return (number + _TWO_TO_31) % TWO_TO_32 - _TWO_TO_31
