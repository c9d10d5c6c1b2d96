"""Node.js: one event loop does everything.

Listens: main. Accepts: main. Reads: main. Executes: main. Writes: main.

    clients ──▶ accept queue ──▶ ┌────────────── main ──────────────┐
                                 │ accept → read → execute → write  │ ──▶ responses
                                 └──────────── one loop ────────────┘

Nothing is shared and nothing is locked; a request that blocks, blocks everyone. `--cluster N` works as
Node's cluster module does, with N such loops in processes of their own: the primary accepts and deals the
connections out (`round-robin`), or the children accept from one shared handle (`shared-handle`).

The real one: libuv accepts until the queue is empty, and so does this, up to a bound. Its round-robin passes over a
child that has not yet taken its last connection, and so does ours. Where that is so of all, its primary keeps the
connection until one has, without a limit; ours hands it to the one that has the fewest to take.
"""

from __future__ import annotations

import socket

from services.workers.main import Main
from services.workers.worker import Worker


def serve(main: Main) -> None:
    """Main's part: everything, unless there is a cluster."""
    listener = main.listen()
    children = main.settings.options["cluster"]
    if not children:
        for connection in main.accept(listener):
            main.serve(connection)
    elif main.settings.options["scheduling"] == "shared-handle":
        main.start_workers(accept_and_serve, listener, number=children)
        main.supervise()
    else:
        workers = main.start_workers(serve_handed_off, number=children)
        for connection, worker in zip(main.accept(listener), workers.least_waiting(), strict=False):
            worker.hand_off(connection)


def accept_and_serve(worker: Worker, listener: socket.socket) -> None:
    """A child's part with a shared handle: libuv waits with plain EPOLLIN, so that every child wakes."""
    for connection in worker.accept(listener, wakeup="herd"):
        worker.serve(connection)


def serve_handed_off(worker: Worker) -> None:
    """A child's part in round-robin."""
    for connection in worker.handed_off():
        worker.serve(connection)
