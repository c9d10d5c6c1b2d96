"""The campaign in its short form: a minute of what `make soak` does for an hour."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from reliability.few_descriptors import few_descriptors
from reliability.figures import Figures, failed
from reliability.flat_memory import one_model as memory_of
from reliability.killed_workers import killed_workers
from reliability.kills import SHORT, kills
from reliability.slow_loris import slow_loris

from services.options import MODELS


def assert_holds(found: Iterable[Figures]) -> None:
    all_of_them = list(found)
    assert all_of_them
    assert [line for figures in all_of_them for line in failed(figures)] == []


@pytest.mark.timeout(240)
@pytest.mark.parametrize("commands", [("up", "down"), ("run", "load", "set")], ids=" ".join)
def test_killed_commands_leave_nothing(commands: tuple[str, ...]) -> None:
    found = kills({command: SHORT[command] for command in commands})
    assert_holds(found)


@pytest.mark.parametrize("model", MODELS)
def test_slow_loris_harms_nobody(model: str) -> None:
    (figures,) = slow_loris(500, 1.0, header_seconds=0.3, models=(model,))
    assert_holds([figures])
    assert figures.cut > 0


@pytest.mark.parametrize("model", MODELS)
def test_more_clients_than_descriptors_are_refused_quietly(model: str) -> None:
    assert_holds(few_descriptors(400, 0.5, (model,)))


@pytest.mark.parametrize("row", [("nginx", "idempotency-key"), ("ramcloud", "upsert")], ids=" ".join)
def test_no_acknowledged_operation_is_lost_or_doubled_where_workers_are_killed(row: tuple[str, str]) -> None:
    assert_holds(killed_workers(1000, (row,)))


def test_mixed_load_does_what_it_says() -> None:
    figures = memory_of("reuseport", 3.0, rounds_per_second=50)
    assert [check.name for check in figures.short_checks() if not check.holds] == [], figures.failures
