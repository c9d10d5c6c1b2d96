"""Main's end of a worker: start it, hand it connections, wake it for requests, end it, and deal with its death.

The worker's own end is in worker.py. Between the two lie, for a thread, mailboxes in shared memory (thread.py), and
for a process, two socket pairs (process.py). Everything here is called by main's thread.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from services.metrics import slots
from services.net.connection import Connection
from services.net.job import Job
from services.net.server_loop import ServerLoop
from services.workers.jobs import JobQueues
from services.workers.server import LoopFactory, Settings
from services.workers.worker import Work


class Loss(NamedTuple):
    """Consequences of a worker's death: connections that ended with it, and jobs that it had not begun."""

    connections: int
    jobs: list[Job]


class Handle(ABC):
    """One worker, as main sees it, and its successors after a death."""

    kind: ClassVar[str]
    patience_ns: ClassVar[int]
    """Time that main may go on handling events before it wakes such workers for what it has queued."""

    def __init__(
        self,
        index: int,
        block: slots.Block,
        settings: Settings,
        make_loop: LoopFactory,
        loop: ServerLoop,
        notice_death: Callable[[], None],
        jobs: JobQueues,
    ) -> None:
        """`make_loop` is for the worker; `loop` is main's; `notice_death()` may be called by any thread."""
        self.index = index
        self.name = str(index)
        self.block = block
        self.reaped = True
        """No worker is there: none has been started, or main has dealt with its death."""
        self.started_ns = 0
        self._settings = settings
        self._make_loop = make_loop
        self._loop = loop
        self._notice_death = notice_death
        self._jobs = jobs
        self._drain_ordered = False
        self._died_before = 0

    # Its life.

    def start(self, work: Work, *args: Any) -> None:
        """Start a worker that runs `work(worker, *args)`; return at once. OSError: not now, perhaps later."""
        # The predecessor's descriptors were kept until now, so that no client's connection could take their room.
        self._close_ends()
        self.started_ns = time.monotonic_ns()
        self.block[slots.BUSY_SINCE] = 0  # a predecessor's
        self.block[slots.STATE] = slots.STARTING
        self._died_before = self.block[slots.CLOSED["worker_died"]]
        self._drain_ordered = False
        self._launch(work, args)
        self.reaped = False
        self._jobs.expect(self.index)

    @property
    def is_serving(self) -> bool:
        """Return whether it serves: not while it is starting, draining or dead."""
        return self.block[slots.STATE] == slots.SERVING

    @abstractmethod
    def order_drain(self) -> None:
        """Have it finish what is begun, then end."""

    @abstractmethod
    def kill(self) -> None:
        """End it now, whatever is begun."""

    @abstractmethod
    def has_ended(self) -> bool:
        """Return whether it runs no more."""

    def cannot_serve(self) -> bool:
        """Return whether it has ended because no worker could serve with these options."""
        return False

    def why(self) -> str:
        """Return why no worker could; empty if it has said so itself."""
        return ""

    @abstractmethod
    def how_it_ended(self) -> str:
        """Return how, for the log."""

    def died(self) -> bool:
        """Return whether it has ended and should not have, and is not reaped."""
        return not self.reaped and self.has_ended() and not (self._drain_ordered and self._ended_well())

    def reap(self) -> Loss:
        """Deal with its death: count what died with it, fail what it had begun, return what it had not."""
        self.reaped = True
        self._receive_what_is_left()
        self._count_what_died()
        connections = self.block[slots.CLOSED["worker_died"]] - self._died_before
        begun = self._take_begun()
        for job in begun:
            job.execution = None  # it died with the worker
            job.connection.close("worker_died")
        return Loss(connections + len(begun), self._jobs.lose(self.index))

    @abstractmethod
    def close(self) -> None:
        """Give back what it held, once it has ended for good or its time is over."""

    # Connections and requests for it.

    @property
    def connections(self) -> int:
        """Connections that it holds or is about to get."""
        return self.block[slots.OPEN] + self.block[slots.HANDED_OFF] - self.block[slots.PICKED_UP]

    @property
    def waiting(self) -> int:
        """Connections that were handed to it, and that it has not taken yet."""
        return self.block[slots.HANDED_OFF] - self.block[slots.PICKED_UP]

    def hand_off(self, connection: Connection) -> None:
        """Give the connection to this worker for life."""
        connection.handed_off_ns = time.monotonic_ns()
        self.block[slots.HANDED_OFF] += 1
        serving = self.is_serving
        if serving and self._send(connection):
            return
        self.block[slots.HANDED_OFF] -= 1
        if serving and self._is_gone():
            # It has died a moment ago, and main is yet to hear of it: the model is given the connection again.
            self.block[slots.STATE] = slots.GONE
            self._loop.accepted.append(connection)
            return
        self._loop.block[slots.CLOSED["queue_full" if serving else "worker_died"]] += 1
        connection.socket.close()

    @abstractmethod
    def wake(self) -> None:
        """Tell the worker, which was idle, that a job is queued for it."""

    # Each kind's own.

    @abstractmethod
    def _launch(self, work: Work, args: tuple[Any, ...]) -> None:
        """Start the thread or process."""

    @abstractmethod
    def _send(self, connection: Connection) -> bool:
        """Send it the connection; False when no more may wait for it, or when it is gone."""

    @abstractmethod
    def _is_gone(self) -> bool:
        """Return whether it has died, though main may not have noticed."""

    @abstractmethod
    def _ended_well(self) -> bool:
        """Return whether it ended by itself and without an error."""

    @abstractmethod
    def _receive_what_is_left(self) -> None:
        """Take what the dead worker has sent, and close what it was sent and has not picked up."""

    @abstractmethod
    def _take_begun(self) -> list[Job]:
        """Return the jobs that the dead worker had begun; they are no more the worker's."""

    @abstractmethod
    def _close_ends(self) -> None:
        """Close what leads to a dead worker, if anything does. May be called twice."""

    def _count_what_died(self) -> None:
        """Count as closed whatever the worker accepted or was handed, and nobody has closed: it dies with the worker.

        Wherever it is just now: counted like this, no moment is missed.
        """
        block = self.block
        received = block[slots.ACCEPTED] + block[slots.HANDED_OFF]
        block[slots.CLOSED["worker_died"]] += received - sum(block[slot] for slot in slots.CLOSED.values())
        block[slots.PICKED_UP] = block[slots.HANDED_OFF]
        block[slots.OPEN] = 0
        slots.end_busy(block)
