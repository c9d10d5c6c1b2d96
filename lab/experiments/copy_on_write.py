"""A backup of a key-value store by fork: the child keeps the moment, and only what changes afterwards is copied."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.harness.checks import always, ratio, shown
from lab.harness.experiment import Check, Control, Experiment, Finding
from lab.harness.observation import Arm, Observation, Quantity

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.harness.experiment import Results
    from lab.harness.trial import Trial

MEBIBYTE = 2**20
SMALL_BYTES, LARGE_BYTES = 4 * MEBIBYTE, 192 * MEBIBYTE
SMALL, LARGE = "4 MiB", "192 MiB"
TOUCHED_SHARE = 0.25
"""Of the pages, chosen at random, written after the fork."""
TOLERANCE = 0.1
OF_THE_FORK, CHANGED, MEANWHILE = "snapshot is of the fork", "store has changed since", "pages written while it read"
FORKS, FORK_PAUSE_SECONDS = 25, 0.02
"""Timed in each trial; the shortest counts, since whatever else the machine does can only make one longer, and that may
last for a while."""

REDIS = "redis.io, persistence (BGSAVE forks); mm/memory.c, do_wp_page: a write to a shared page copies that page"


class Store:
    """Values of a page each in one mapping.

    Not the models' own store, which keeps Python objects: reading one changes its reference count, which is in the
    same page, and so even a child that only reads would copy nearly everything.
    """

    def __init__(self, size: int, flags: int) -> None:
        self.memory = mmap.mmap(-1, size, flags=flags)
        # Huge pages would be copied 4 KiB or 2 MiB at a time, as the kernel likes: the count would mean nothing.
        self.memory.madvise(mmap.MADV_NOHUGEPAGE)
        self.pages = size // mmap.PAGESIZE
        for page in range(self.pages):
            self.put(page, b"old")

    def put(self, page: int, value: bytes) -> None:
        """Overwrite one value."""
        self.memory[page * mmap.PAGESIZE : page * mmap.PAGESIZE + len(value)] = value

    def digest(self, halfway: Callable[[], object] = lambda: None) -> str:
        """Of all values as they are now; `halfway` is called when half of them have been read."""
        digest, half = hashlib.blake2b(), len(self.memory) // 2
        with memoryview(self.memory) as values:
            digest.update(values[:half])
            halfway()
            digest.update(values[half:])
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Pages:
    """Kernel's account of a mapping in one process, in bytes."""

    private_dirty: int
    proportional: int


def pages_of(size: int) -> Pages:
    """Of this process's mapping of `size` bytes; there is one of that size. Raises LookupError."""
    sections = Path("/proc/self/smaps").read_text(encoding="ascii").split("VmFlags:")
    for section in sections:
        figures = dict(line.split()[:2] for line in section.splitlines() if line.endswith(" kB"))
        if int(figures.get("Size:", 0)) * 1024 == size:
            return Pages(int(figures["Private_Dirty:"]) * 1024, int(figures["Pss:"]) * 1024)
    raise LookupError(f"no mapping of {size} bytes")


def private_dirty() -> int:
    """Of all of this process, in bytes."""
    rollup = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
    return next(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Private_Dirty:"))


def trial(trial: Trial) -> Observation:
    """Fork, and write before and while the child reads its snapshot."""
    size: int = trial.parameter("bytes")
    store = Store(size, mmap.MAP_SHARED if trial.parameter("shared") else mmap.MAP_PRIVATE)
    at_fork = store.digest()
    fork_seconds = min(time_a_fork() for _ in range(FORKS))
    child = Snapshot(store)
    before, process_before = pages_of(size), private_dirty()
    touched = random.Random(trial.repetition).sample(range(store.pages), int(store.pages * TOUCHED_SHARE))
    write(store, touched[: len(touched) // 2])
    child.begin_to_read()
    written = write(store, touched[len(touched) // 2 :])
    seen = child.finish()
    after, process_after = pages_of(size), private_dirty()
    child.end()
    copied = after.private_dirty - before.private_dirty
    must_exist = size + len(touched) * mmap.PAGESIZE
    return Observation(
        {
            "fork": Quantity(fork_seconds * 1000, "ms"),
            "pages touched": Quantity(len(touched)),
            "copied / touched": Quantity(copied / mmap.PAGESIZE / len(touched)),
            "copied in all the process / touched": Quantity(
                (process_after - process_before) / mmap.PAGESIZE / len(touched)
            ),
            "sum of PSS / pages that must exist": Quantity((after.proportional + seen["proportional"]) / must_exist),
            OF_THE_FORK: Quantity(seen["digest"] == at_fork),
            CHANGED: Quantity(store.digest() != at_fork),
            MEANWHILE: Quantity(sum(seen["begun"] < when < seen["ended"] for when in written)),
        },
        shares={
            "MiB": {
                "store": size / MEBIBYTE,
                "private to the parent": after.private_dirty / MEBIBYTE,
                "private to the child": seen["private_dirty"] / MEBIBYTE,
                "PSS of both": (after.proportional + seen["proportional"]) / MEBIBYTE,
            }
        },
    )


def time_a_fork() -> float:
    """Seconds for which `fork` holds its caller up; the child ends at once, and a pause follows."""
    begun = time.perf_counter()
    child = os.fork()
    if child == 0:
        os._exit(0)
    seconds = time.perf_counter() - begun
    os.waitpid(child, 0)
    time.sleep(FORK_PAUSE_SECONDS)
    return seconds


def write(store: Store, pages: list[int]) -> list[float]:
    """New values in these pages, and when each was written."""
    times = []
    for page in pages:
        store.put(page, b"new")
        times.append(time.monotonic())
    return times


class Snapshot:
    """A forked child that holds the store as it was, and reads it when it is told to."""

    def __init__(self, store: Store) -> None:
        go_out, self._go = os.pipe()
        self._answer, answer_in = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            self._be_the_child(store, go_out, answer_in)
        os.close(go_out)
        os.close(answer_in)

    def begin_to_read(self) -> None:
        """Return when it has read half of it: what is written now is written while it reads."""
        os.write(self._go, b"!")
        os.read(self._answer, 1)

    def finish(self) -> dict[str, Any]:
        """Time of its reading, the digest of that, and its memory now. It stays until `end`."""
        os.write(self._go, b"!")
        with os.fdopen(self._answer, encoding="ascii") as answer:
            seen: dict[str, Any] = json.loads(answer.read())
        return seen

    def end(self) -> None:
        """Let it go; until then it shares its pages."""
        os.write(self._go, b"!")
        os.close(self._go)
        os.waitpid(self._pid, 0)

    @staticmethod
    def _be_the_child(store: Store, go: int, answer: int) -> None:
        try:
            os.read(go, 1)
            begun = time.monotonic()
            digest = store.digest(halfway=lambda: os.write(answer, b"!"))
            ended = time.monotonic()
            os.read(go, 1)
            pages = pages_of(len(store.memory))
            seen = {
                "private_dirty": pages.private_dirty,
                "proportional": pages.proportional,
                "digest": digest,
                "begun": begun,
                "ended": ended,
            }
            os.write(answer, json.dumps(seen).encode("ascii"))
            os.close(answer)
            os.read(go, 1)
        finally:
            os._exit(0)  # nothing of the parent's is the child's to clean up


def of_the_fork(results: Results) -> Finding:
    """In every trial the child read what was there at the fork, while the store had become another and did so still."""
    result = results[LARGE]
    names = (OF_THE_FORK, CHANGED, MEANWHILE)
    text = ", ".join(f"{name} {shown(result.summary(name))}" for name in names)
    trials = [[trial.metrics[name].value for name in names] for trial in result.observations]
    if not all(same and changed for same, changed, _ in trials):
        return Finding(text, False)
    if not all(meanwhile for *_, meanwhile in trials):
        return Finding(f"{text}: in some trial nobody wrote while it read", None)
    return Finding(text, True)


def arm(name: str, size: int, *, shared: bool = False) -> Arm:
    """A store of that size."""
    return Arm(name, parameters={"bytes": size, "shared": shared})


EXPERIMENT = Experiment(
    name="copy-on-write",
    chapter="process and thread",
    question="A store is backed up by a forked child while writes go on. What is copied, and what does the child see?",
    predict=f"{TOUCHED_SHARE:.0%} of the pages are written after the fork: how much memory do both need together?",
    arms=(arm(SMALL, SMALL_BYTES), arm(LARGE, LARGE_BYTES)),
    trial=trial,
    checks=(
        Check(
            "copies-what-is-touched",
            "each page that is written after the fork is copied, and no other",
            REDIS,
            "copied / touched 0.9 to 1.1",
            always(LARGE, "copied / touched", 1 - TOLERANCE, 1 + TOLERANCE),
            timed=False,
            shows=("P5",),
        ),
        Check(
            "pss-is-real",
            "the sum of both processes' PSS is the memory that really exists: the store, and the copies",
            "Documentation/filesystems/proc.rst: PSS counts a page that n processes share as 1/n",
            "0.9 to 1.1 of store plus pages touched",
            always(LARGE, "sum of PSS / pages that must exist", 1 - TOLERANCE, 1 + TOLERANCE),
            timed=False,
        ),
        Check(
            "snapshot-is-of-the-fork",
            "the child sees the store as it was at the moment of the fork, whatever is written since",
            REDIS,
            "in every trial the child's digest is that of the fork, the store has another since, and pages were "
            "written while the child read",
            of_the_fork,
            timed=False,
            shows=("P5",),
        ),
        Check(
            "fork-grows-with-memory",
            "fork copies page tables, so a process with a large store takes longer to fork than one with a small store",
            "redis.io, latency: fork time grows with the memory of the process",
            "at least 2 times as long, spreads apart",
            ratio("fork", LARGE, to=SMALL, least=2),
            timed=True,
        ),
    ),
    controls=(
        Control(
            "shared-mapping",
            "the store is in memory that both share, so nothing is ever copied",
            (arm(LARGE, LARGE_BYTES, shared=True),),
            ("copies-what-is-touched", "pss-is-real", "snapshot-is-of-the-fork"),
        ),
        Control("same-size", "both stores are small", (arm(LARGE, SMALL_BYTES),), ("fork-grows-with-memory",)),
    ),
    quick_repetitions=3,
    explanation="""\
`fork` copies no memory but the page tables: parent and child share every page, and the kernel marks them read-only.
The first write to a page by either faults, and that process gets a copy of this one page. So the child holds the
store exactly as it was at the fork, without a lock and without stopping the writers for longer than the fork takes.

What that costs is proportional to what is *written meanwhile*, not to the store: Redis needs little more memory for a
backup at night, and up to twice its size during a busy hour. The fork itself takes time proportional to the page
tables, and the whole process stands still for it.

The resident sizes of parent and child count shared pages twice. PSS divides each page by the number of its users, so
its sum is real memory; Private_Dirty is what would go if the process ended.

Reference counts make Python objects bad at this: reading one writes to its page. So the store here is not the models'
own key-value store, which is made of such objects and would be copied by the child's mere reading; it keeps its values
in one mapping, as Redis keeps them in memory of its own. *Copied in all the process* shows what the interpreter's own
objects add.
""",
)
