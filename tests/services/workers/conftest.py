"""Servers with a fault put in, which no request could cause."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.servers import Server, end_server, start_server

ROOT = Path(__file__).parents[3]


@pytest.fixture
def serve_with(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """`serve_with(fault, "memcached", ...)`: a server that runs the lines of `fault` before it starts."""
    servers: list[Server] = []

    def start(fault: str, model: str, *options: str, **popen: object) -> Server:
        program = tmp_path / f"faulty-{len(servers)}"
        program.write_text(
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n{fault}\n"
            "from services.__main__ import main\n"
            "sys.exit(main(sys.argv[3:]))\n"  # called as: python -m services MODEL ...
        )
        program.chmod(0o755)
        server = start_server(tmp_path, model, *options, executable=str(program), **popen)
        servers.append(server)
        return server

    yield start
    for server in servers:
        end_server(server)
