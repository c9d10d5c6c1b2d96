"""Figures are judged as they should be: every bound is seen to be broken once. And docs/reliability.md shows them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from reliability import page
from reliability.few_descriptors import LATER, FewDescriptors
from reliability.figures import Figures, failed
from reliability.flat_memory import PARTS, FlatMemory
from reliability.killed_workers import KilledWorkers
from reliability.kills import Kills
from reliability.others import Served
from reliability.slope import Slope
from reliability.slow_loris import SlowLoris

from lab.measure import environment

MIB = 1 << 20
WHERE = environment.describe()
GOOD: dict[str, Figures] = {
    "kills": Kills("lab up", 10, 1, 0.1, 9.0),
    "slow-loris": SlowLoris(
        "nginx",
        1000,
        40,
        900,
        Served(500, 499, 2.0, 20.0),
        6,
        50 * MIB,
        0.01,
        [53 * MIB, 53 * MIB, 53 * MIB],
        [51 * MIB, 51 * MIB, 51 * MIB],
        40,
        40,
        0,
    ),
    "few-descriptors": FewDescriptors("nginx", 2000, 40, 100, 300, 5.0, 4, 0.05, 0, LATER, 40, 40),
    "killed-workers": KilledWorkers("nginx, upsert", 1000, 9.0, 30, {"200": 1000}, 20, 0, 0, 0),
    "flat-memory": FlatMemory(
        "nginx",
        600.0,
        {"reset": 6000, "idle": 6100},
        [],
        Slope(0.1, -5.0, 7.0, 24),
        Slope(10.0, -50.0, 70.0, 24),
        [60 * MIB] * PARTS,
        0,
    ),
}
BAD: list[tuple[str, dict[str, Any], str]] = [
    ("kills", {"left": ["file /tmp/lab-load-x"]}, "left after the next `lab down`"),
    ("kills", {"failures": ["lab down ended with 2"]}, "commands that failed afterwards"),
    ("kills", {"killed": 0, "missed": 11}, "killed in time"),
    ("slow-loris", {"served": Served(500, 400, 2.0, 20.0)}, "others are served"),
    ("slow-loris", {"served": Served(500, 499, 2.0, 3100.0)}, "their p99"),
    ("slow-loris", {"peak_bytes": [53 * MIB, 80 * MIB, 53 * MIB]}, "memory a connection"),
    ("slow-loris", {"after_bytes": [51 * MIB, 51 * MIB, 58 * MIB]}, "memory that the last wave leaves"),
    ("slow-loris", {"descriptors_after": 41}, "descriptors"),
    ("slow-loris", {"restarts": 1}, "no worker died"),
    ("few-descriptors", {"died": 1}, "nothing died"),
    ("few-descriptors", {"cpu_seconds": 5.0}, "cores a process while clients are refused"),
    ("few-descriptors", {"served": 0}, "some are served meanwhile"),
    ("few-descriptors", {"descriptors_short": 0}, "refusals are counted"),
    ("few-descriptors", {"dropped": 0}, "refusals are counted"),
    ("few-descriptors", {"later_successes": LATER - 1}, "successes when they have left"),
    ("few-descriptors", {"descriptors_after": 41}, "descriptors"),
    ("killed-workers", {"lost": 1}, "acknowledged and lost"),
    ("killed-workers", {"doubled": 1}, "applied twice"),
    ("killed-workers", {"unacknowledged": 1}, "never acknowledged"),
    ("killed-workers", {"interrupted": 0}, "operations that a kill interrupted"),
    ("flat-memory", {"blocks": Slope(10.0, 9.0, 11.0, 24)}, "objects more in use, a round of kinds"),
    ("flat-memory", {"malloc_bytes": Slope(300.0, 200.0, 450.0, 24)}, "bytes of malloc more in use, a round"),
    ("flat-memory", {"resident_bytes": [60 * MIB] * (PARTS - 1) + [300 * MIB]}, "memory that is held"),
    ("flat-memory", {"events": {"reset": 0, "idle": 10}}, "every kind of event came"),
    ("flat-memory", {"failures": ["idle: TimeoutError()"]}, "events that failed"),
    ("flat-memory", {"died": 1}, "no worker died"),
]


@pytest.mark.parametrize("item", GOOD)
def test_good_figures_hold(item: str) -> None:
    assert failed(GOOD[item]) == []


@pytest.mark.parametrize(
    ("item", "changes", "name"), BAD, ids=[f"{item}-{next(iter(changes))}" for item, changes, _ in BAD]
)
def test_broken_bound_is_told(item: str, changes: dict[str, Any], name: str) -> None:
    bad = replace(GOOD[item], **changes)
    assert name in [check.name for check in bad.checks() if check.holds is False]


def test_time_is_not_judged_where_others_had_the_processors() -> None:
    late = replace(GOOD["slow-loris"], served=Served(500, 499, 2.0, 3100.0), starved=0.4)
    assert failed(late) == []
    assert [check.name for check in late.checks() if check.holds is None] == ["their p99"]


def test_page_shows_the_stored_figures() -> None:
    assert page.shown() == page.tables(json.loads(page.STORED.read_text(encoding="utf-8")))


def test_new_figures_replace_older_ones_of_their_subject() -> None:
    rows = page.merged(
        [page.stamped(item, figures, WHERE) for item, figures in GOOD.items()],
        [page.stamped("kills", replace(GOOD["kills"], killed=20), WHERE)],
    )
    assert [row["item"] for row in rows] == list(GOOD)
    assert rows[0]["figures"]["killed"] == 20


def test_rows_that_were_judged_by_other_checks_go() -> None:
    old, other = (
        page.stamped("kills", replace(GOOD["kills"], subject=f"lab {name}"), WHERE) for name in ("run", "set")
    )
    old["checks"] = old["checks"][1:]
    new = page.stamped("kills", GOOD["kills"], WHERE)
    assert page.merged([old, other], [new]) == [other, new]
    assert page.tables([other, new])


def test_tables_say_what_does_not_hold() -> None:
    rows = [page.stamped("kills", replace(GOOD["kills"], left=["process python"]), WHERE)]
    assert "| `lab up` | 1: process python: **does not hold** | 0 | 10 of 11 |" in page.tables(rows)
