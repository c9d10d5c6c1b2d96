"""Memcached: main accepts, and hands each connection to a worker for life.

Listens: main. Accepts: main. Reads, executes, writes: the worker that owns the connection.

                                              ┌─▶ queue ─▶ worker 0: read → execute → write ─┐
    clients ──▶ accept queue ──▶ main: accept ┼─▶ queue ─▶ worker 1: read → execute → write ─┼─▶ responses
                                              └─▶ queue ─▶ worker 2: read → execute → write ─┘

Connections are dealt out evenly; load is not. The hand-off happens once a connection, so it is cheap, and
final, so a hot connection stays where it is, and everything behind it waits.

The real one: worker threads woken through an eventfd or a pipe (`dispatch_conn_new` in thread.c, next = last + 1
mod n), and so are ours; one that has died is passed over until it is replaced. The real one lets any number of
connections wait for a worker; we close what is beyond a bound, and count it. `--assign least-connections` is not
the real one's: it shows that counting better does not help.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from services.workers.handle import Handle
from services.workers.main import Main
from services.workers.pool import Pool
from services.workers.worker import Worker


def serve(main: Main) -> None:
    """Main's part: accept and hand off."""
    listener = main.listen()
    workers = main.start_workers(serve_handed_off)
    next_worker = ASSIGN[main.settings.options["assign"]](workers)
    for connection in main.accept(listener):
        next(next_worker).hand_off(connection)


def serve_handed_off(worker: Worker) -> None:
    """A worker's part: everything but accepting."""
    for connection in worker.handed_off():
        worker.serve(connection)


def least_connections(workers: Pool) -> Iterator[Handle]:
    """Yield the worker that has the fewest connections now."""
    while True:
        yield min(workers.serving(), key=lambda worker: worker.connections)


ASSIGN: dict[str, Callable[[Pool], Iterator[Handle]]] = {
    "round-robin": Pool.in_turn,
    "least-connections": least_connections,
}
