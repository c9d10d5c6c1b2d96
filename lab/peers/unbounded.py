"""A server without back-pressure, for comparison: what no client takes stays in its memory.

    python -m lab.peers.unbounded HOST PORT BYTES

answers `/stream` with BYTES bytes, and all else with a few, after 40 ms of sleep as `/work?block=40ms` has it. The
mistake is a common one: in asyncio, `write()` without `drain()`.
"""

from __future__ import annotations

import asyncio
import sys
import time

BLOCK_SECONDS = 0.04


class Answer(asyncio.Protocol):
    """One connection. Whatever comes is taken for a request."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer, and never ask whether the last answer was taken."""
        size = int(sys.argv[3]) if b"/stream" in data else 0
        time.sleep(0 if size else BLOCK_SECONDS)
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        self.transport.write(b"x" * size)


async def serve(host: str, port: int) -> None:
    """Until somebody ends us."""
    server = await asyncio.get_running_loop().create_server(Answer, host, port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
