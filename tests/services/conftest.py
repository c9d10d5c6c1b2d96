"""Servers that end with the test that started them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.servers import Server, end_server, start_server


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers: `serve("nginx", "--workers", "2")`; all are gone after the test."""
    servers: list[Server] = []

    def start(model: str, *options: str, **popen: object) -> Server:
        server = start_server(tmp_path, model, *options, **popen)
        servers.append(server)
        return server

    yield start
    for server in servers:
        end_server(server)
        assert "Traceback" not in server.log.read_text(), server.log.read_text()
