"""Times as people write them, and marks that an experiment leaves in Grafana if there is one."""

from __future__ import annotations

import re
import threading
import time
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from lab.grafana.api import Grafana, GrafanaError

if TYPE_CHECKING:
    from collections.abc import Sequence

TAG = "lab"
"""On every annotation of ours: the dashboards ask for it."""

MARK_SECONDS = 1.0
UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
EPOCH = re.compile(r"\d{9,10}(\.\d+)?", re.ASCII)
"""From 1973 to 2286: fewer digits are a date of ISO 8601, more are milliseconds."""
RELATIVE = re.compile(r"([+-])(\d{1,9}(?:\.\d+)?)([smhd])", re.ASCII)


def moment(text: str, now: float) -> float:
    """Seconds since the epoch, from `now`, `-5m`, `1770000000.5` or ISO 8601 (local time unless it says otherwise).

    Raises ValueError, with a text for the user.
    """
    if text == "now":
        return now
    if relative := RELATIVE.fullmatch(text):
        sign, amount, unit = relative.groups()
        return now + float(sign + amount) * UNIT_SECONDS[unit]
    if EPOCH.fullmatch(text):
        return float(text)
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"{text!r} is no time: give 2026-01-31T14:05:00, -5m (s, m, h or d), or seconds since the epoch"
        ) from error


def span(since: str, until: str | None) -> tuple[float, float | None]:
    """A moment, or a region with its end. Raises ValueError, with a text for the user."""
    now = time.time()
    start, end = moment(since, now), None if until is None else moment(until, now)
    if end is not None and end < start:
        raise ValueError(f"--to {until} lies before --from {since}: swap them")
    return start, end


def tagged(tags: Sequence[str]) -> list[str]:
    """The tags with ours first, each once."""
    return list(dict.fromkeys((TAG, *tags)))


def mark(text: str, tags: Sequence[str] = (), start: float | None = None, end: float | None = None) -> int | None:
    """Annotate as `Grafana.annotate` does, if a Grafana takes it within a second; else return None.

    For experiments, which run with or without a Grafana. Raises SettingError, for a variable that is wrong.
    """
    grafana = Grafana.from_settings(timeout_seconds=MARK_SECONDS)
    ids: list[int] = []

    def ask() -> None:
        with suppress(GrafanaError):
            ids.append(grafana.annotate(text, tagged(tags), start, end))

    # requests' timeout bounds neither the name's look-up nor an answer that comes byte by byte: a thread does.
    thread = threading.Thread(target=ask, name="grafana-mark", daemon=True)
    thread.start()
    thread.join(MARK_SECONDS)
    return ids[0] if ids else None
