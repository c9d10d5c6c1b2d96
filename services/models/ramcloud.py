"""RAMCloud: a dispatch thread owns every connection, and hands each *request* to a worker.

Listens, accepts, reads, writes: main (dispatch). Executes: any free worker.

                                  ┌── main (dispatch) ──┐ request   ┌─▶ worker 0: execute ─┐
    clients ──▶ accept queue ──▶  │ accept → read       │ ────────▶ ┼─▶ worker 1: execute ─┤
                                  │          write ◀─── │ ◀──┐      └─▶ worker 2: execute ─┤
                                  └─────────────────────┘    └───────── response ──────────┘

A slow request occupies one worker and delays nobody while another is free; a hot connection is spread
over all of them. The price is two hand-offs a request, and one thread through which all bytes pass.

The real one: WorkerManager.cc hands an RPC to the last idle worker (a stack: its caches are warm) and queues it
when all are busy; its threads poll instead of sleeping. It hands over requests, not connections;
`--dispatch connection` is the weaker reading, found in many texts. Our thread workers take their next request
from the queue themselves, where the real dispatch thread hands it to them.
"""

from __future__ import annotations

from collections.abc import Callable

from services.net.job import Job
from services.workers.main import Main
from services.workers.pool import Pool
from services.workers.worker import Worker


def serve(main: Main) -> None:
    """The dispatcher's part: everything but executing."""
    listener = main.listen()
    workers = main.start_workers(execute_requests)
    submit = DISPATCH[main.settings.options["dispatch"]](workers)
    for connection in main.accept(listener):
        main.serve(connection, submit)


def execute_requests(worker: Worker) -> None:
    """A worker's part: execute whatever it is given."""
    for request in worker.submitted():
        worker.reply(request, worker.execute(request))


def by_connection(workers: Pool) -> Callable[[Job], None]:
    """A connection's requests all go to one worker, while that lives: its descriptor's number says which."""
    return workers.chosen(lambda job: job.connection.socket.fileno() % len(workers))


DISPATCH: dict[str, Callable[[Pool], Callable[[Job], None]]] = {
    "request-idle-stack": Pool.last_idle,
    "request-fifo": Pool.first_idle,
    "request-least-loaded": Pool.least_loaded,
    "connection": by_connection,
}
