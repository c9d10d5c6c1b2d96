"""A row: one signature of one model beside one real system, how near they must be, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.fidelity.running import Running

if TYPE_CHECKING:
    from lab.fidelity.system import System

Measure = Callable[[Running], float]
EXACT = 0.0


@dataclass(frozen=True, slots=True)
class Signature:
    """A question to a running system that has a figure as its response."""

    kind: str
    """The file of lab/fidelity/signatures that measures it."""
    text: str
    measure: Measure
    unit: str = ""
    """"%" for a share; empty for a count."""


@dataclass(frozen=True, slots=True)
class Row:
    """A model beside a real system."""

    signature: Signature
    model: System
    real: System
    why: str
    """Reason of the tolerance; of the difference, where they differ on purpose."""
    tolerance: float = EXACT
    """Greatest distance between the two figures that is called the same."""
    differs: bool = False
    """The model differs on purpose, and the row is expected to say so."""
    wrong: System | None = None
    """Control: a model that is wrong on purpose. Its figure must be farther from the real one than the tolerance."""
    least_repeats: int = 1
    """Times that both are measured in the full form at least: a ratio wants five."""
    quick: bool = False
    """Part of the quick form."""


def signature(text: str, measure: Measure, unit: str = "") -> Signature:
    """Return a signature; its kind is the file that the function is in."""
    return Signature(measure.__module__.rpartition(".")[2], text, measure, unit)
