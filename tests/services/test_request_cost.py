"""docs/design.md shows the stored costs of a request, and the script that measures them still runs."""

import json

from support import request_cost


def test_page_shows_the_stored_costs() -> None:
    assert request_cost.shown() == request_cost.table(json.loads(request_cost.STORED.read_text(encoding="utf-8")))


def test_parts_run(monkeypatch) -> None:
    monkeypatch.setattr(request_cost, "ROUNDS", 1)
    monkeypatch.setattr(request_cost, "REQUESTS", 50)
    monkeypatch.setattr(request_cost, "SYSTEM_CALLS", 20)
    figures = request_cost.measure()["us_per_request"]
    assert all(figure > 0 for name, figure in figures.items() if "states" not in name)
