"""A message on its way to whoever executes it, and back to the connection that it came from."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol as Interface

from services.messages import Message, Response


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


Execute = Callable[[Job], None]
