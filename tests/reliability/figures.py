"""Figures of one item of the campaign, how they are judged, and how they are stored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold: what was measured, and within which bound it must be.

    `holds` is None where others had the processors, so that a time cannot be judged.
    """

    name: str
    measured: str
    bound: str
    holds: bool | None


@dataclass(frozen=True)
class Figures(ABC):
    """Base of each item's figures: `subject` is the model or the command that they are of."""

    subject: str

    @property
    @abstractmethod
    def size(self) -> str:
        """Return how much of it was done, in words with the number."""

    @abstractmethod
    def checks(self) -> list[Check]:
        """Return the judgements."""

    def stored(self) -> dict[str, Any]:
        """Return them as they are stored, with their size and judgements, from which alone the page is made."""
        return {
            "subject": self.subject,
            "size": self.size,
            "figures": asdict(self),
            "checks": [asdict(check) for check in self.checks()],
        }


def failed(figures: Figures) -> list[str]:
    """Return the checks that do not hold, a line each."""
    return [
        f"{figures.subject}: {check.name}: {check.measured} (bound: {check.bound})"
        for check in figures.checks()
        if check.holds is False
    ]
