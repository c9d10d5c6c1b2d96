"""Figures of a trial, by arm: quantities with their units, series, distributions, notes, and the names of metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

GENERATOR_CPU = "generator cpu"
"""The metric that holds the generator's share of its core, where its speed could spoil a figure."""
FAILED = "failed"
"""The metric that counts requests without a good answer. A load of which some failed is not the one that was meant."""
AS_SENT = ", as sent"
"""Behind the name of latencies: the same ones, but from when a request was sent, however late that was."""
OTHERS = "taken by others"
"""The metric that holds the share of the processors' time that other programs had, or other virtual machines."""
LITTLES_LAW = "Little's law"
"""The metric that holds L / (λ W): 1 where the load generator's own figures agree with one another."""


class Quantity(NamedTuple):
    """A figure and its unit: `s`, `ms`, `1/s`, `B`, `%`, or "" for counts and ratios."""

    value: float
    unit: str = ""


@dataclass(slots=True)
class Observation:
    """Result of one trial. All of it is JSON, and `metrics` is what checks read."""

    metrics: dict[str, Quantity] = field(default_factory=dict)
    shares: dict[str, dict[str, float]] = field(default_factory=dict)
    """Counts side by side, `{"connections per worker": {"0": 100, "1": 101}}`: drawn as bars."""
    series: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """`{"accept queue": [(seconds since the start, value)]}`: drawn over time."""
    latencies: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Histograms as `loadtests.histogram.Histogram.to_json` gives them: drawn as distributions."""
    notes: list[str] = field(default_factory=list)
    """Events in their order, in words: a packet trace, the steps of a handshake."""


def taken_by_others(observation: Observation) -> float:
    """The share of the processors' time that others had meanwhile; 0 where nobody has looked."""
    return observation.metrics[OTHERS].value if OTHERS in observation.metrics else 0.0


@dataclass(frozen=True, slots=True)
class Arm:
    """One of the things compared."""

    name: str
    model: str = ""
    """Name of the model that serves; empty where the trial needs none, or starts something else."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of `lab serve`, without the dashes: `{"workers": 3, "wakeup": "herd"}`."""
    sysctls: Mapping[str, int | str] = field(default_factory=dict)
    """Of the server's namespace."""
    client_sysctls: Mapping[str, int | str] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else the trial reads: the load's size, a pause."""
    quick: bool = True
    """True if the quick form has this arm, too: not where it would predict the same there as another."""

    def described(self) -> dict[str, Any]:
        """All that was set, for the result."""
        settings = {**self.options, **self.sysctls, **self.client_sysctls, **self.parameters}
        return {"model": self.model, **settings} if self.model else settings
