"""NGINX: main opens one socket, and the workers compete to accept from it.

Listens: main. Accepts, reads, executes, writes: whichever worker takes the connection.

                                 ┌─▶ worker 0: accept → read → execute → write ─┐
    clients ──▶ accept queue ──▶ ┼─▶ worker 1: accept → read → execute → write ─┼─▶ responses
              (one, shared)      └─▶ worker 2: accept → read → execute → write ─┘

A busy worker does not come to the queue, so it gets nothing new: the queue balances by itself what is
queued, but never moves what has been accepted. Who wakes is the kernel's choice, and `--wakeup` says how
the workers wait: that decides whether idle workers alternate, one takes all, or everyone wakes for nothing.

The real one: worker processes with one loop each, as here by default; EPOLLEXCLUSIVE and the re-adding of the
listener every 16 accepts (since 1.21.6) are as there. Its accept mutex is a spin lock in shared memory,
ours an flock. `--wakeup blocking` is Apache's, not NGINX's; its acceptor thread goes on accepting while
its worker is busy.
"""

from __future__ import annotations

import socket

from services.workers.main import Main
from services.workers.worker import Worker


def serve(main: Main) -> None:
    """Main's part: open the socket, then only watch over the workers."""
    listener = main.listen()
    main.start_workers(accept_and_serve, listener)
    main.supervise()


def accept_and_serve(worker: Worker, listener: socket.socket) -> None:
    """A worker's part: everything, in competition with its neighbours."""
    for connection in worker.accept(listener, wakeup=worker.settings.options["wakeup"]):
        worker.serve(connection)
