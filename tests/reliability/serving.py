"""A server for one item of the campaign, and what its processes hold."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
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
