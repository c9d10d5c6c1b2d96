"""The long form of the campaign: `make soak`, or `make soak ARGS="kills --of run load --part 0.3"`.

It stores its figures in docs/reliability.json, makes the tables of docs/reliability.md from them, and exits with 1 if
anything does not hold. `--part` makes everything smaller; the figures say how large they are.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence

from reliability import page
from reliability.few_descriptors import few_descriptors
from reliability.figures import Figures, failed
from reliability.flat_memory import flat_memory
from reliability.killed_workers import ROWS, STRATEGIES, killed_workers
from reliability.kills import LONG, kills
from reliability.slow_loris import slow_loris

from lab.measure import environment
from services.options import MODELS

OPERATIONS = 100_000
CONNECTIONS, WAVE_SECONDS = 10_000, 8.0
HEADER_SECONDS = 10.0
LARGE_HEAD_BYTES = 30_000
"""Nearly what a head may have."""
CLIENTS = 2000
REFUSED_SECONDS = 5.0
FLAT_SECONDS, EVENTS_PER_SECOND = 570.0, 120.0
KILLS_SECONDS = 3600.0

Long = Callable[[float, Sequence[str]], Iterator[Figures]]
"""Called with the part of the whole that is wanted, and the subjects."""


def all_kills(part: float, of: Sequence[str]) -> Iterator[Figures]:
    """Kill the commands."""
    sizes = {command: max(1, round(LONG[command] * part)) for command in of or LONG}
    yield from kills(sizes, seconds=KILLS_SECONDS * part)


def all_slow_loris(part: float, of: Sequence[str]) -> Iterator[Figures]:
    """Attack with small heads, and one model with large ones."""
    connections, models = round(CONNECTIONS * part), tuple(of or MODELS)
    yield from slow_loris(connections, WAVE_SECONDS, HEADER_SECONDS, models=models)
    yield from slow_loris(connections, WAVE_SECONDS, HEADER_SECONDS, LARGE_HEAD_BYTES, models=models[:1])


def all_few_descriptors(part: float, of: Sequence[str]) -> Iterator[Figures]:
    """Have too many clients."""
    return few_descriptors(round(CLIENTS * part), REFUSED_SECONDS, tuple(of or MODELS))


def all_killed_workers(part: float, of: Sequence[str]) -> Iterator[Figures]:
    """Kill workers."""
    rows = tuple((model, strategy) for strategy in STRATEGIES for model in of or ROWS)
    return killed_workers(round(OPERATIONS * part), rows)


def all_flat_memory(part: float, of: Sequence[str]) -> Iterator[Figures]:
    """Load for long."""
    return flat_memory(FLAT_SECONDS * part, EVENTS_PER_SECOND, tuple(of or MODELS))


ITEMS: dict[str, Long] = {
    "kills": all_kills,
    "slow-loris": all_slow_loris,
    "few-descriptors": all_few_descriptors,
    "killed-workers": all_killed_workers,
    "flat-memory": all_flat_memory,
}


def main() -> int:
    """Run what was asked for; by default all."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("items", nargs="*", metavar="ITEM", help=", ".join(ITEMS))
    parser.add_argument("--of", nargs="+", default=(), help="only these models, or commands that are killed")
    parser.add_argument("--part", type=float, default=1.0, help="part of the whole size, such as 0.1")
    asked = parser.parse_args()
    if unknown := set(asked.items) - set(ITEMS):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(ITEMS)}")
    faults, where = [], environment.describe()  # as it was before figures are stored
    for item in asked.items or ITEMS:
        for figures in ITEMS[item](asked.part, asked.of):
            page.store(item, figures, where)
            print(f"{item}: {figures.subject}: {figures.size}", flush=True)
            faults += [f"{item}: {line}" for line in failed(figures)]
    print("\n".join(faults) or "all of it holds")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
