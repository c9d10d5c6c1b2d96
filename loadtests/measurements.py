"""Measurements of this process: requests and connects apart, in fine buckets, with closed sets of labels.

Plain counts rather than `prometheus_client` objects: updating those would cost the generator more than
the request. Within a run they only grow; a worker sends all it has with every report to the master (of the
seconds, the last ones), so that a report lost or repeated changes nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from loadtests.histogram import Histogram

ERRORS = (
    "ConnectionRefusedError", "ConnectionResetError", "ConnectionAbortedError", "BrokenPipeError", "TimeoutError",
    "ConnectionClosedError", "HttpParserError", "ReplyTooLargeError", "WrongReplyError", "WrongCountError",
    "400", "404", "405", "408", "409", "411", "413", "414", "417", "422", "431", "500", "501", "503", "505",
    "other",
)  # fmt: skip
"""Every value of the label `error`: an exception's class, or a status."""
SERIES_SECONDS = 3600
"""So many seconds of a run are kept one by one; a longer one goes on in the totals."""
REPORTED_SECONDS = 10
"""A worker reports so many of its last seconds again: more than three of its reports, so that one may be lost."""
CONNECT_ERRORS = ("ConnectionRefusedError", "ConnectionResetError", "TimeoutError", "other")

Snapshot = dict[str, Any]
"""Measurements as plain lists, for msgpack and JSON."""


class BadStatusError(Exception):
    """The server answered with a status that is no success."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class WrongReplyError(Exception):
    """The server answered something else than it should have."""


class WrongCountError(Exception):
    """A counter shows an effect that was lost or applied twice."""


def error_label(error: BaseException, known: tuple[str, ...] = ERRORS) -> str:
    """The member of `known` that says what went wrong."""
    names = [str(error.status)] if isinstance(error, BadStatusError) else [kind.__name__ for kind in type(error).mro()]
    return next((name for name in names if name in known), "other")


class NoResponseError(Exception):
    """The run ended while the request waited."""


class Second:
    """Requests that ended within one second of a run."""

    __slots__ = ("failures", "histogram", "users")

    def __init__(self) -> None:
        self.failures = self.users = 0
        self.histogram = Histogram()

    def add(self, other: Second) -> None:
        """Count what another process did in the same second."""
        self.failures += other.failures
        self.users += other.users
        self.histogram.add(other.histogram)

    def to_json(self) -> list[Any]:
        """Return what `from_json` takes."""
        return [self.failures, self.users, self.histogram.to_json()]

    @classmethod
    def from_json(cls, stored: list[Any]) -> Second:
        """Make a second of what `to_json` gave."""
        second = cls()
        second.failures, second.users, histogram = stored
        second.histogram = Histogram.from_json(histogram)
        return second


class Measurements:
    """Counts and histograms, by labels. All greenlets of one process share one; nothing here yields."""

    def __init__(self) -> None:
        self.series: dict[int, Second] = {}
        """By the second of the run, from 0; empty until `begin`."""
        self.no_response: Counter[str] = Counter()
        self._began: float | None = None
        self.responses: dict[tuple[str, str, str], Histogram] = {}
        """By model, method and name; from sending a request to its whole response."""
        self.intended: dict[tuple[str, str, str], Histogram] = {}
        """The same of users that send at a pace, from when a request was due, with those that were never sent since
        an earlier one took so long: what coordinated omission hides from `responses`."""
        self.connects: dict[str, Histogram] = {}
        self.failures: Counter[tuple[str, str]] = Counter()
        self.connect_failures: Counter[tuple[str, str]] = Counter()

    def begin(self) -> None:
        """Begin a run: forget the one before."""
        self.__init__()  # type: ignore[misc]
        self._began = time.monotonic()

    def introduce(self, model: str) -> None:
        """Make the series of `model` exist with 0, so that the first failure shows as an increase."""
        self.connects.setdefault(model, Histogram())
        self.no_response[model] += 0
        for error in ERRORS:
            self.failures[model, error] += 0
        for error in CONNECT_ERRORS:
            self.connect_failures[model, error] += 0

    def responded(self, model: str, method: str, name: str, seconds: float, error: BaseException | None) -> None:
        """Count one request that ended, well or badly."""
        key = (model, method, name)
        if key not in self.responses:
            self.responses[key] = Histogram()
        self.responses[key].record_seconds(seconds)
        second = self.second()
        if second is not None:
            second.histogram.record_seconds(seconds)
        if error is not None:
            self.failures[model, error_label(error)] += 1
            if second is not None:
                second.failures += 1

    def second(self) -> Second | None:
        """Return the second of the run that it is now; None before a run, and after `SERIES_SECONDS`."""
        if self._began is None:
            return None
        number = int(time.monotonic() - self._began)
        second = self.series.get(number)
        if second is None and number < SERIES_SECONDS:
            second = self.series[number] = Second()
        return second

    def unanswered(self, model: str) -> None:
        """Count one request that had no response when the run ended."""
        self.no_response[model] += 1

    def paced(self, model: str, method: str, name: str, seconds_from_due: float, pace_seconds: float) -> None:
        """Count one request of a user that sends every `pace_seconds`, from when it was due."""
        histogram = self.intended.setdefault((model, method, name), Histogram())
        histogram.record_corrected_seconds(seconds_from_due, pace_seconds)

    def connected(self, model: str, seconds: float) -> None:
        """Count one connection made."""
        self.connects[model].record_seconds(seconds)

    def connect_failed(self, model: str, error: BaseException) -> None:
        """Count one connection that could not be made."""
        self.connect_failures[model, error_label(error, CONNECT_ERRORS)] += 1

    def snapshot(self, seconds: int = SERIES_SECONDS) -> Snapshot:
        """Return everything so far, and of the series the last `seconds`."""
        last = max(self.series, default=0)
        return {
            "responses": [[*key, histogram.to_json()] for key, histogram in self.responses.items()],
            "intended": [[*key, histogram.to_json()] for key, histogram in self.intended.items()],
            "connects": [[model, histogram.to_json()] for model, histogram in self.connects.items()],
            "failures": [[*key, count] for key, count in self.failures.items()],
            "connect_failures": [[*key, count] for key, count in self.connect_failures.items()],
            "no_response": [[model, count] for model, count in self.no_response.items()],
            "series": [[number, each.to_json()] for number, each in self.series.items() if number > last - seconds],
        }

    def include(self, snapshot: Snapshot) -> None:
        """Add what another process has measured."""
        for mine, theirs in ((self.responses, snapshot["responses"]), (self.intended, snapshot["intended"])):
            for model, method, name, stored in theirs:
                mine.setdefault((model, method, name), Histogram()).add(Histogram.from_json(stored))
        for model, stored in snapshot["connects"]:
            self.connects.setdefault(model, Histogram()).add(Histogram.from_json(stored))
        for model, error, count in snapshot["failures"]:
            self.failures[model, error] += count
        for model, error, count in snapshot["connect_failures"]:
            self.connect_failures[model, error] += count
        for model, count in snapshot["no_response"]:
            self.no_response[model] += count
        for number, stored in snapshot["series"]:
            self.series.setdefault(number, Second()).add(Second.from_json(stored))


class CpuMeter:
    """The share of one core that this process used: in the last interval, and since `restart`."""

    def __init__(self) -> None:
        self.recent = 0.0
        self.restart()

    def restart(self) -> None:
        """Begin a new mean."""
        self._began = self._last = (time.monotonic(), time.process_time())

    def tick(self) -> None:
        """End an interval."""
        now = (time.monotonic(), time.process_time())
        self.recent = _ratio(self._last, now)
        self._last = now

    @property
    def mean(self) -> float:
        return _ratio(self._began, (time.monotonic(), time.process_time()))


def _ratio(begin: tuple[float, float], end: tuple[float, float]) -> float:
    elapsed = end[0] - begin[0]
    return (end[1] - begin[1]) / elapsed if elapsed > 0 else 0.0


MEASURED = Measurements()
"""This process's own: Locust too has one set of events and one environment a process."""
CPU = CpuMeter()
