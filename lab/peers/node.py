"""Node's own `http` server, alone or as a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.peers.process import Cpus, Peer, Plan, running, version_of
from lab.settings import HOST

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

NAME = "node"
HOW_TO_GET = "apt-get install nodejs"

SERVER = """
const http = require('http');
const cluster = require('cluster');
const [host, port, workers] = process.argv.slice(2);
if (cluster.isPrimary && workers > 1) {
  for (let i = 0; i < workers; i++) cluster.fork();
} else {
  const server = http.createServer((request, response) => {
    response.writeHead(200, {'Content-Type': 'text/plain', 'Content-Length': 16});
    response.end('hello from node\\n');
  });
  server.keepAliveTimeout = 75000;
  server.listen({port: Number(port), host, backlog: 511});
}
"""


def available() -> str | None:
    """Its version; None when it is not installed."""
    return version_of("node", "--version")


def start(port: int = 0, workers: int = 1, cpus: Cpus = None) -> AbstractContextManager[Peer]:
    """A running Node; with more than one worker a cluster, whose primary deals out the connections."""
    return running(Plan(NAME, lambda folder, free: _command(folder, free, workers)), port, cpus)


def _command(folder: Path, port: int, workers: int) -> list[str]:
    (folder / "server.js").write_text(SERVER, encoding="utf-8")
    return ["node", str(folder / "server.js"), HOST, str(port), str(workers)]
