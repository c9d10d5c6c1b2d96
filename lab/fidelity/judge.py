"""From figures to the rows of the table: agrees, differs, or inconclusive."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from lab.harness.verdict import BUSY_MACHINE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.fidelity.row import Row

AGREES, DIFFERS, INCONCLUSIVE = "agrees", "differs", "inconclusive"
WORDS = {True: AGREES, False: DIFFERS, None: INCONCLUSIVE}
ROUNDING = 1e-9


def judged(row: Row, figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of the document. `figures` has lists of figures, `model`, `real` and `wrong`, and `others`.

    A row that differs while other programs had the processors shows nothing: a response that comes too late counts as
    none. One that agrees all the same, agrees.
    """
    model, real = median(figures["model"]), median(figures["real"])
    agrees = near(model, real, row.tolerance)
    hindered = not agrees and not row.differs and figures["others"] > BUSY_MACHINE
    return {
        "signature": row.signature.text,
        "kind": row.signature.kind,
        "unit": row.signature.unit,
        "model": row.model.label,
        "model_value": model,
        "real": row.real.label,
        "real_value": real,
        "system": row.real.name,
        "tolerance": row.tolerance,
        "agrees": None if hindered else agrees,
        "expected": not row.differs,
        "why": row.why,
        "figures": {"model": figures["model"], "real": figures["real"]},
        "others": round(figures["others"], 3),
        "control": _control(row, figures, real),
    }


def _control(row: Row, figures: Mapping[str, Any], real: float) -> dict[str, Any] | None:
    if row.wrong is None or not figures["wrong"]:
        return None
    wrong = median(figures["wrong"])
    return {"model": row.wrong.label, "value": wrong, "caught": not near(wrong, real, row.tolerance)}


def near(one: float, other: float, tolerance: float) -> bool:
    """Return whether two figures are no farther apart than the tolerance."""
    return abs(one - other) <= tolerance + ROUNDING


def unexplained(rows: list[dict[str, Any]]) -> list[str]:
    """Return a line for each row that differs and is not meant to, and for each control that was not caught."""
    lines = [f"{name_of(row)}: differs" for row in rows if row["agrees"] is False and row["expected"]]
    controls = ((row, row["control"]) for row in rows if row["control"])
    return lines + [f"{name_of(row)}: {control['model']} passes" for row, control in controls if not control["caught"]]


def inconclusive(rows: list[dict[str, Any]]) -> list[str]:
    """Return the rows that other programs hindered."""
    return [name_of(row) for row in rows if row["agrees"] is None]


def name_of(row: dict[str, Any]) -> str:
    """Return a row's name in a line of text."""
    return f"{row['signature']} ({row['model']} | {row['real']})"
