"""A message on its way to whoever executes it, and back to the connection that it came from."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol as Interface

from services.messages import Execution, Message, Response


class Requester(Interface):
    """A connection, as whoever executes its requests knows it."""

    socket: socket.socket

    def reply(self, job: Job, response: Response) -> None:
        """Send the response. Called by the connection's loop only."""

    def close(self, reason: str) -> None:
        """Close now: there will be no response. Called by the connection's loop only."""


@dataclass(slots=True, eq=False)
class Job:
    """One message, and times (monotonic ns) if it is a sample.

    `weight` is how many requests this one stands for in the stages' histograms; 0: not sampled.
    """

    connection: Requester
    message: Message
    weight: int = 0
    submitted_ns: int = 0
    ready_ns: int = 0
    execution: Execution | None = field(default=None, init=False)
    """Set while the application awaits, by whoever executes the job."""
    _ended: bool = field(default=False, init=False)
    _cancelled: bool = field(default=False, init=False)

    def attend(self, execution: Execution) -> None:
        """Tell this execution about the client from now on, and what it should know already."""
        # Where a worker's thread executes, main may tell just now: each sets its own first and then looks at the
        # other's, so at least one of them tells, and to be told twice does nothing.
        self.execution = execution
        if self._cancelled:
            execution.cancel()
        elif self._ended:
            execution.end_of_input()

    def end_of_input(self) -> None:
        """Tell whoever executes it that the client has sent its last byte."""
        self._ended = True
        if self.execution is not None:
            self.execution.end_of_input()

    def cancel(self) -> None:
        """Tell whoever executes it that the connection is gone."""
        self._cancelled = True
        if self.execution is not None:
            self.execution.cancel()


Execute = Callable[[Job], None]
