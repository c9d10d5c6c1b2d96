"""A server for one item of the campaign, and what its processes hold."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.servers import Server, end_server, start_server

from lab.measure.processes import tree


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
