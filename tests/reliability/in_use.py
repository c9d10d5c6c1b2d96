"""A server that says what it has in use when SIGUSR2 asks it; and how to ask.

/proc shows what the allocators hold, which is more: glibc and CPython keep what was freed, in pieces between what is in
use, and each time that more than ever is in use at once they take some more of the kernel. So the resident memory of a
server under a load that changes creeps up for hours, ever slower, without a leak. A leak is in use.

As a program it is `python -m services` with a handler for the signal, which main's children inherit. It imports nothing
of the campaign, which is no part of what is measured.
"""

from __future__ import annotations

import ctypes
import gc
import os
import runpy
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

FOLDER = "LAB_SOAK_FOLDER"
SECONDS = 20.0
"""The longest that a process may take to say it: a worker that blocks does so afterwards."""
POLL_SECONDS = 0.002
PROGRAM = (__file__,)


class InUse(NamedTuple):
    """Memory that processes have in use, all together."""

    blocks: int
    """Of CPython's allocator for small objects (up to 512 bytes): one an object, and one for each of its tables."""
    malloc_bytes: int
    """Of the C library's: larger objects, and what C code takes for itself."""


class Mallinfo2(ctypes.Structure):
    """See mallinfo(3)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


def ask(folder: Path, pids: Sequence[int]) -> InUse:
    """Return what these processes have in use now. Raises TimeoutError where one does not say it."""
    files = [folder / str(pid) for pid in pids]
    for file in files:
        file.unlink(missing_ok=True)
    for pid in pids:
        os.kill(pid, signal.SIGUSR2)
    deadline = time.monotonic() + SECONDS
    while missing := [file.name for file in files if not file.exists()]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{', '.join(missing)} did not say within {SECONDS:.0f} s what is in use")
        time.sleep(POLL_SECONDS)
    said = [InUse(*map(int, file.read_text(encoding="ascii").split())) for file in files]
    return InUse(*map(sum, zip(*said, strict=True)))


def serve() -> None:
    """Become the server."""
    folder, library = os.environ[FOLDER], ctypes.CDLL(None)
    library.mallinfo2.restype = Mallinfo2

    def say(*_: object) -> None:
        # What nothing refers to any more is in use until it is collected, and so are CPython's lists of free tuples and
        # floats, which a full collection empties: else an idle process seems to grow by an object a second for minutes.
        gc.collect()
        info, name = library.mallinfo2(), f"{folder}/{os.getpid()}"
        with open(f"{name}.new", "w", encoding="ascii") as file:  # noqa: PTH123 - a Path would stay in pathlib's caches
            file.write(f"{sys.getallocatedblocks()} {info.uordblks + info.hblkhd}")
        os.replace(f"{name}.new", name)  # noqa: PTH105

    signal.signal(signal.SIGUSR2, say)
    sys.path[0] = str(Path.cwd())
    runpy.run_module("services", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    serve()
