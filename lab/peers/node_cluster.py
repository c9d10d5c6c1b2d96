"""Node with the routes of lab/peers/routes.py: one loop, or its cluster module with either scheduling.

Who owns a connection: the loop, an epoll of libuv, that watches it. The script ends and replaces workers as Node's own
documentation of `cluster` and `server.close` shows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.peers import node
from lab.peers.process import Cpus, Peer, Plan, running
from lab.peers.routes import BLOCK_SECONDS, LONG_BYTES
from lab.settings import HOST

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

NAME = "node-cluster"
HOW_TO_GET = node.HOW_TO_GET
available = node.available

SERVER = """
const http = require('http');
const cluster = require('cluster');
const [host, port, workers, scheduling, backlog, long, block] = process.argv.slice(2);
cluster.schedulingPolicy = scheduling === 'shared-handle' ? cluster.SCHED_NONE : cluster.SCHED_RR;

function primary() {
  let ending = false;
  for (let i = 0; i < workers; i++) cluster.fork();
  cluster.on('exit', () => ending || cluster.fork());
  process.on('SIGTERM', () => {
    ending = true;
    for (const worker of Object.values(cluster.workers)) worker.process.kill('SIGTERM');
    cluster.disconnect();
  });
}

function serve() {
  const server = http.createServer((request, response) => {
    if (request.url === '/block') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Number(block));
    const body = request.url === '/big' ? Buffer.alloc(Number(long)) : 'hello from node\\n';
    response.writeHead(200, {'Content-Type': 'text/plain', 'Content-Length': body.length});
    response.end(body);
  });
  server.keepAliveTimeout = 75000;
  server.listen({port: Number(port), host, backlog: Number(backlog)});
  process.on('SIGTERM', () => { server.close(() => process.exit(0)); server.closeIdleConnections(); });
}

cluster.isPrimary && workers > 0 ? primary() : serve();
"""


def start(
    port: int = 0, workers: int = 0, cpus: Cpus = None, *, scheduling: str = "round-robin", backlog: int = 511
) -> AbstractContextManager[Peer]:
    """A running Node; without `workers` one loop, with any a cluster. `scheduling` is round-robin or shared-handle."""
    words = [str(workers), scheduling, str(backlog), str(LONG_BYTES), str(int(BLOCK_SECONDS * 1000))]
    return running(Plan(NAME, lambda folder, free: _command(folder, free, words)), port, cpus)


def _command(folder: Path, port: int, words: list[str]) -> list[str]:
    (folder / "server.js").write_text(SERVER, encoding="utf-8")
    return ["node", str(folder / "server.js"), HOST, str(port), *words]
