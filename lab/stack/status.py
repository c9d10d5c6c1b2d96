"""State of the stack's parts: a supervisor's or an engine's word, a health probe, and what they cost."""

from __future__ import annotations

import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

from lab import settings
from lab.measure.processes import cpu_seconds, pss_bytes, tree
from lab.stack import containers, supervision
from lab.stack.leftovers import ours, part_of
from lab.stack.parts import LEFT_OUT, PIECES, Part, declared
from lab.stack.supervision import Program

CPU_SAMPLE_SECONDS = 0.25
PLACE = "local"
MISSING = {
    "prometheus": f"not installed here: install your system's prometheus package, then `{settings.UP}`",
}


def place() -> str:
    """Return where the stack is up, or a rest of it: "local", "containers", or "" where there is nothing."""
    if supervision.answers() or ours():
        return PLACE
    return containers.PLACE if containers.there_is_something() else ""


def parts() -> list[Part]:
    """Every part, also those that are down or left out, of the place that is up. Takes up to half a second."""
    return containers.parts() if place() == containers.PLACE else local_parts()


def local_parts() -> list[Part]:
    """Every part of the local place."""
    try:
        programs = {entry.name: entry for entry in supervision.programs()}
    except OSError:
        return [*orphaned_or_down(), *left_out()]
    pids = {name: pids_of(entry.pid) for name, entry in programs.items()}
    with ThreadPoolExecutor() as pool:
        healthy = pool.map(lambda name: PIECES[name].answers(), programs)
        percent = cpu_percent(pids)
        health = dict(zip(programs, healthy, strict=True))
    shown = [
        part_of_program(programs[name], health=health[name], percent=percent[name], memory=pss_bytes(pids[name]))
        if name in programs
        else absent(name)
        for name in PIECES
    ]
    return [*shown, *left_out()]


def part_of_program(program: Program, *, health: bool, percent: float, memory: int) -> Part:
    """A part that supervisord knows."""
    piece = PIECES[program.name]
    running = program.pid != 0
    return Part(
        name=program.name,
        place=PLACE,
        state=program.state.lower(),
        health=("ok" if health else "failing") if running else "-",
        url=piece.port.url,
        pid=program.pid,
        cpu_percent=percent,
        memory_bytes=memory,
        detail=program.detail,
    )


def orphaned_or_down() -> list[Part]:
    """The parts when no supervisord answers: down, or orphaned where processes of theirs live on."""
    pids: dict[str, list[int]] = defaultdict(list)
    for process in ours():
        pids[part_of(process)].append(process.pid)
    return [orphan(name, pids[name]) if pids[name] else absent(name, "stopped") for name in PIECES]


def orphan(name: str, pids: list[int]) -> Part:
    """A part that lost its supervisord."""
    detail = f"supervisord is gone: `{settings.UP}` or `{settings.DOWN}` puts this right"
    health = "ok" if PIECES[name].answers() else "failing"
    return Part(name, PLACE, "orphaned", health, PIECES[name].port.url, min(pids), 0.0, pss_bytes(pids), detail)


def absent(name: str, state: str = "absent") -> Part:
    """A part of which nothing runs."""
    if state == "absent" and name in declared():
        return Part(name, PLACE, "missing", "failing", "", 0, 0.0, 0, "it should run: `lab up` starts it")
    detail = MISSING.get(name, "") if state == "absent" else ""
    return Part(name, PLACE, state, "-", "", 0, 0.0, 0, detail)


def left_out() -> list[Part]:
    """Return the parts that this place cannot have."""
    return [Part(name, PLACE, "absent", "-", "", 0, 0.0, 0, why) for name, why in LEFT_OUT[PLACE].items()]


def pids_of(pid: int) -> list[int]:
    """The part's processes: none while it is down."""
    try:
        return tree(pid) if pid else []
    except ProcessLookupError:
        return []


def cpu_percent(pids: dict[str, list[int]]) -> dict[str, float]:
    """Per cent of one core that each part used during a short sample."""
    before = {name: cpu_seconds(own) for name, own in pids.items()}
    start = time.monotonic()
    time.sleep(CPU_SAMPLE_SECONDS)
    elapsed = time.monotonic() - start
    # A process that ended meanwhile takes its time with it: then the difference means nothing.
    return {name: max(0.0, (cpu_seconds(own) - before[name]) / elapsed * 100) for name, own in pids.items()}
