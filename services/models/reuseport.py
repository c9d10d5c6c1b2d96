"""SO_REUSEPORT: every worker opens a listening socket of its own on the same port.

Listens, accepts, reads, executes, writes: each worker.

               ┌─▶ accept queue 0 ──▶ worker 0: accept → read → execute → write ─┐
    clients ───┼─▶ accept queue 1 ──▶ worker 1: accept → read → execute → write ─┼─▶ responses
     (kernel)  └─▶ accept queue 2 ──▶ worker 2: accept → read → execute → write ─┘

The kernel picks the queue when the SYN arrives, by a hash of the addresses (`--steering hash`) or by the CPU
that handled the packet (`cpu`). No lock, no herd, even shares for many connections; but a queue belongs
to its worker, so behind a stalled one they wait although its neighbours are idle.

When a worker is replaced, the kernel puts its last listener into the dead one's place and the new one at the end:
with `cpu`, a CPU's connections may go to another worker from then on.

The real ones differ in who opens the sockets: NGINX's master opens all before it forks, so that a worker's
death loses none of its queue. Here the worker itself does, and what is queued at a dead worker is reset.
"""

from __future__ import annotations

from services.net.listener import steer_by_cpu
from services.workers.main import Main
from services.workers.worker import Worker


def serve(main: Main) -> None:
    """Main's part: only watch over the workers."""
    main.start_workers(listen_and_serve)
    main.supervise()


def listen_and_serve(worker: Worker) -> None:
    """A worker's part: everything, for itself."""
    listener = worker.listen(reuse_port=True)
    if worker.settings.options["steering"] == "cpu":
        steer_by_cpu(listener, worker.settings.workers)
    for connection in worker.accept(listener):
        worker.serve(connection)
