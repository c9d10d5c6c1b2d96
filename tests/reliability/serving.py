"""A server for one item of the campaign, and what its processes hold."""

from __future__ import annotations

import contextlib
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from reliability.others import Others
from support.servers import Server, end_server, start_server

from lab.measure.processes import tree

WARM_UP_SECONDS = 0.5
RATE = 100.0


@contextlib.contextmanager
def serving(model: str, *options: str, **popen: Any) -> Iterator[Server]:
    """Have a server of its own, in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        server = start_server(Path(folder), model, "--state-dir", f"{folder}/state", *options, **popen)
        try:
            yield server
        finally:
            end_server(server)


def open_descriptors(server: Server) -> int:
    """Return how many descriptors all its processes have open."""
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in tree(server.pid))


def warm_up(server: Server) -> None:
    """Have everything opened and made that a server opens and makes when it is first asked."""
    server.metric("lab_connections_open")
    with Others(server.port, RATE):
        time.sleep(WARM_UP_SECONDS)


def anonymous_bytes(pids: Sequence[int]) -> int:
    """Return the proportional set size of what is no file's: heaps, stacks, and what was copied on writing.

    What a page of a library counts for depends on who else on this machine runs Python, and so it is left out.
    """
    rollups = (Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii") for pid in pids)
    return sum(1024 * int(kib) for rollup in rollups for kib in re.findall(r"^Pss_Anon: +(\d+)", rollup, re.MULTILINE))


def waited_seconds(pids: Sequence[int]) -> dict[str, float]:
    """Return for how long each thread of these was ready to run and waited for a processor (schedstat's second field)."""
    found = {}
    for pid in pids:
        for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):  # it has ended
                found[str(file)] = int(file.read_text(encoding="ascii").split()[1]) / 1e9
    return found
