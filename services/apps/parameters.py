"""Path variables and query values of a request target, checked.

Every refusal is a `BadRequestError` whose text says what would have been accepted.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote_to_bytes

from services.messages import MAX_KEY_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_DURATION_SECONDS = 60.0

_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_INTEGER = re.compile(r"-?[0-9]{1,20}")
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(us|ms|s)")
_UNIT_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


class BadRequestError(Exception):
    """The client asked for something that cannot be; the text is the body of the 400."""


def path_variable(segment: bytes, name: str) -> bytes:
    """One segment of a path, percent-decoded: 1 to 250 bytes, any of the 256 values."""
    if b"%" in segment:
        segment = _decoded(segment, name)
    if not 0 < len(segment) <= MAX_KEY_BYTES:
        raise BadRequestError(f"{name} must be 1 to {MAX_KEY_BYTES} bytes long")
    return segment


def _decoded(segment: bytes, name: str) -> bytes:
    if _BROKEN_ESCAPE.search(segment):
        raise BadRequestError(f"{name}: a percent sign must be followed by two hexadecimal digits")
    return unquote_to_bytes(segment)


def query_of(target: bytes) -> dict[str, str]:
    """The query's values by name; of a repeated name the last one counts, unknown names are ignored."""
    text = target.partition(b"?")[2]
    if not text:
        return {}
    try:
        return dict(parse_qsl(text.decode("latin-1"), keep_blank_values=True, max_num_fields=32))
    except ValueError:
        raise BadRequestError("the query may hold at most 32 values") from None


def integer(query: Mapping[str, str], name: str, default: int | None, minimum: int, maximum: int) -> int:
    """A whole number between the bounds; `default` where it is missing (None: it must be there)."""
    text = query.get(name)
    if text is None and default is not None:
        return default
    if text is None or not _INTEGER.fullmatch(text) or not minimum <= int(text) <= maximum:
        raise BadRequestError(f"{name} must be a whole number from {minimum} to {maximum}")
    return int(text)


def duration(query: Mapping[str, str], name: str) -> float:
    """A duration in seconds, written like 5ms, 1.5s or 200us; 0 where it is missing."""
    text = query.get(name)
    if text is None:
        return 0.0
    match = _DURATION.fullmatch(text)
    seconds = float(match[1]) * _UNIT_SECONDS[match[2]] if match else -1.0
    if not 0 <= seconds <= MAX_DURATION_SECONDS:
        raise BadRequestError(f"{name} must be a duration like 5ms, 1.5s or 200us, at most {MAX_DURATION_SECONDS:g}s")
    return seconds


def choice(query: Mapping[str, str], name: str, choices: Sequence[str]) -> str:
    """One of `choices`; the first where it is missing."""
    text = query.get(name, choices[0])
    if text not in choices:
        raise BadRequestError(f"{name} must be one of {', '.join(choices)}")
    return text
