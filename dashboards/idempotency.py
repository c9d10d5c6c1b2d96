"""Idempotency: what retries did."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.parts import COLUMNS, Limit, Query, Section, graph, number, page
from dashboards.promql import MODEL, OVER, rate

OUTCOME = f'sum by (model) (rate(lab_idempotency_outcomes_total{{{MODEL}, outcome="%s"}}{OVER}))'


def dashboard() -> Dashboard:
    """Outcomes, replays, conflicts."""
    sections: list[Section] = [
        (
            "Now",
            [
                number(
                    "Applied/s",
                    "ops",
                    "Requests that changed something, each once.",
                    Query(OUTCOME % "applied", "{{model}}"),
                    shown_by=["idempotent-retries"],
                ),
                number(
                    "Replayed/s",
                    "ops",
                    "Retries that got the first answer again, and changed nothing.",
                    Query(OUTCOME % "replayed", "{{model}}"),
                    shown_by=["idempotent-retries"],
                ),
                number(
                    "Conflicts/s",
                    "ops",
                    "Retries that came while the first attempt was still at work: 409.",
                    Query(OUTCOME % "conflict", "{{model}}"),
                    limit=Limit(yellow=0.01),
                    shown_by=["idempotent-retries"],
                ),
                number(
                    "Same key, other request/s",
                    "ops",
                    "A client's mistake: a key that was used for something else: 422.",
                    Query(OUTCOME % "mismatch", "{{model}}"),
                    limit=Limit(red=0.01),
                    shown_by=["idempotent-retries"],
                ),
            ],
        ),
        (
            "Over time",
            [
                graph(
                    "Outcomes/s",
                    "ops",
                    "After a worker is killed, replays show retries that found their first attempt done. Without a "
                    "shared store they would have been applied twice.",
                    [Query(rate("lab_idempotency_outcomes_total", "model, outcome"), "{{model}} {{outcome}}")],
                    width=COLUMNS,
                    shown_by=["idempotent-retries"],
                ),
                graph(
                    "Answers/s, by code",
                    "reqps",
                    "409 and 422 are the two refusals; 400 is a missing key where one is required.",
                    [
                        Query(
                            rate("lab_requests_total", "model, code", f'{MODEL}, code=~"2..|4..|5.."'),
                            "{{model}} {{code}}",
                        )
                    ],
                    width=COLUMNS,
                ),
            ],
        ),
    ]
    return page(
        "idempotency",
        "Idempotency",
        "What retries did: applied, replayed, in conflict, or a mistake.",
        sections,
    )
