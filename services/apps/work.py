"""Simulated service time: `?cpu=5ms&block=20ms&gil=release`.

`block` waits for nothing, as a slow database would make it wait: `time.sleep`, without the GIL.
`cpu` burns processor time of this thread, and `gil` says what other threads may do meanwhile:

    release  hashes large buffers with hashlib, which lets go of the GIL while it hashes
    hold     a Python loop: the GIL changes hands every switch interval (5 ms)
    hold-c   one call into C that keeps the GIL to its end, as a badly written extension does

On a free-threaded build there is no GIL, and the three are the same to other threads.
Accuracy: `release` overshoots by at most one hash (about 0.2 ms), `hold` by some microseconds. The
length of `hold-c` is worked out beforehand from a calibration made once a process; it is within
about a tenth while the clock frequency stays what it was. The response says what was really spent.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from services.apps.parameters import choice, duration, query_of
from services.messages import Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HASH_BUFFER = bytes(256 * 1024)
"""Far above the 2,047 bytes from which hashlib releases the GIL."""
LOOP_TURNS = 50
"""Repetitions between two looks at the clock: a look costs a system call."""
CALIBRATION_TERMS = 200_000


@dataclass(frozen=True, slots=True)
class Work:
    """Time to burn and to block, in seconds, and the fate of the GIL meanwhile."""

    cpu_seconds: float = 0.0
    block_seconds: float = 0.0
    gil: str = "release"

    @property
    def seconds(self) -> float:
        """Time that it takes on a free processor."""
        return self.cpu_seconds + self.block_seconds

    def perform(self) -> None:
        """Spend the time, in the calling thread."""
        if self.cpu_seconds:
            BURNERS[self.gil](self.cpu_seconds)
        if self.block_seconds:
            time.sleep(self.block_seconds)


def work_in(query: Mapping[str, str]) -> Work:
    """Return the work that the query asks for. Raises `BadRequestError`."""
    return Work(duration(query, "cpu"), duration(query, "block"), choice(query, "gil", tuple(BURNERS)))


def do_work(request: Request) -> Response:
    """GET /work."""
    work = work_in(query_of(request.target))
    cpu, wall = time.thread_time(), time.perf_counter()
    work.perform()
    cpu, wall = time.thread_time() - cpu, time.perf_counter() - wall
    return Response("200", f"cpu: {cpu * 1e3:.3f} ms\nwall: {wall * 1e3:.3f} ms\n".encode())


def _burn_without_gil(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        hashlib.sha256(HASH_BUFFER)


def _burn_in_python(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        for _ in range(LOOP_TURNS):
            pass


def _burn_in_c(seconds: float) -> None:
    sum(range(int(seconds * _terms_per_second())))


@cache
def _terms_per_second() -> float:
    # The quickest of several: whatever disturbs a run makes it slower, never faster.
    fastest = min(_seconds_of_one_sum() for _ in range(5))
    return CALIBRATION_TERMS / fastest


def _seconds_of_one_sum() -> float:
    start = time.thread_time()
    sum(range(CALIBRATION_TERMS))
    return time.thread_time() - start


BURNERS: dict[str, Callable[[float], None]] = {
    "release": _burn_without_gil,
    "hold": _burn_in_python,
    "hold-c": _burn_in_c,
}
