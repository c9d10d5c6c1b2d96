"""Idempotency: what retries did."""

from __future__ import annotations

from grafana_foundation_sdk.builders import stat
from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.parts import COLUMNS, Limit, Query, Section, graph, number, page
from dashboards.promql import MODEL, rate


def outcome(name: str, title: str, look_for: str, limit: Limit | None = None) -> stat.Panel:
    """Requests each second that ended like this."""
    query = Query(rate("lab_idempotency_outcomes_total", "model", f'{MODEL}, outcome="{name}"'), "{{model}}")
    return number(title, "ops", look_for, query, limit=limit, shown_by=["idempotent-retries"])


def now() -> Section:
    """The four ends that a request with a key can have."""
    return "Now", [
        outcome("applied", "Applied/s", "Requests that changed something, each once."),
        outcome("replayed", "Replayed/s", "Retries that got the first response again, and changed nothing."),
        outcome(
            "conflict",
            "Conflicts/s",
            "Retries that came while the first attempt was still at work: 409.",
            Limit(yellow=0.01),
        ),
        outcome(
            "mismatch",
            "Same key, other request/s",
            "A client's mistake: a key that was used for something else: 422.",
            Limit(red=0.01),
        ),
    ]


def over_time() -> Section:
    """The same, and the codes of the responses."""
    return "Over time", [
        graph(
            "Outcomes/s",
            "ops",
            "After a worker is killed, replays show retries that found their first attempt done. Without a shared "
            "store they would have been applied twice.",
            [Query(rate("lab_idempotency_outcomes_total", "model, outcome"), "{{model}} {{outcome}}")],
            width=COLUMNS,
            shown_by=["idempotent-retries", "lost-updates"],
        ),
        graph(
            "Responses/s, by code",
            "reqps",
            "409 and 422 are the two refusals; 400 is a missing key where one is required.",
            [Query(rate("lab_requests_total", "model, code", f'{MODEL}, code=~"2..|4..|5.."'), "{{model}} {{code}}")],
            width=COLUMNS,
            shown_by=["idempotent-retries"],
        ),
    ]


def dashboard() -> Dashboard:
    """Outcomes, replays, conflicts."""
    return page(
        "idempotency",
        "Idempotency",
        "What retries did: applied, replayed, in conflict, or a mistake.",
        [now(), over_time()],
    )
