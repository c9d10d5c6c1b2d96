"""A server says what it has in use: more while it holds connections, and no more when they have gone."""

from __future__ import annotations

import os
from pathlib import Path

from reliability.in_use import FOLDER, PROGRAM, ask
from reliability.serving import serving
from support.servers import wait_until

from lab.measure.processes import tree

CONNECTIONS = 300
REQUEST = b"POST / HTTP/1.1\r\nHost: lab\r\nContent-Length: 9\r\n\r\n"
"""Its body does not come: the connection holds a parser."""


def test_what_connections_hold_is_in_use_until_they_have_gone(tmp_path: Path) -> None:
    environment = {**os.environ, FOLDER: str(tmp_path)}
    with serving("nginx", "--workers", "2", program=PROGRAM, env=environment) as server:
        family = tree(server.pid)
        assert len(family) == 4  # main, two workers, and the process for metrics

        def come_and_go() -> tuple[int, int]:
            clients = [server.connect() for _ in range(CONNECTIONS)]
            for client in clients:
                client.sendall(REQUEST)
            wait_until(lambda: server.metric("lab_connections_open") == CONNECTIONS, what="connections")
            held = ask(tmp_path, family).blocks
            for client in clients:
                client.close()
            wait_until(lambda: server.metric("lab_connections_open") == 0, what="their end")
            return held, ask(tmp_path, family).blocks

        come_and_go()
        held, before = come_and_go()
        assert held - before > 5 * CONNECTIONS
        _, after = come_and_go()
        assert after - before < CONNECTIONS  # an object of each
