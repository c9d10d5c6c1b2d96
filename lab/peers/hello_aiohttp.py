"""The least aiohttp server: `python -m lab.peers.hello_aiohttp HOST PORT WORKERS`."""

from __future__ import annotations

import os
import sys

from aiohttp import web


async def hello(_: web.Request) -> web.Response:
    """Answer every request with the same text."""
    return web.Response(text="hello from aiohttp\n")


def main(host: str, port: str, workers: str) -> None:
    """Serve until SIGTERM."""
    for _ in range(int(workers) - 1):
        if os.fork() == 0:
            break
    app = web.Application()
    app.router.add_get("/", hello)
    web.run_app(app, host=host, port=int(port), reuse_port=True, access_log=None, print=None)


if __name__ == "__main__":
    main(*sys.argv[1:])
