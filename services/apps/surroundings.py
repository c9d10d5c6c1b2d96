"""Surroundings of an application of one's own: all that an adapter says to it about the server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Server and worker that execute the application.

    `hands_off`: the response is written by somebody else than who executes (ramcloud's dispatch), so it is handed over
    whole.
    """

    worker: str
    host: str
    port: int
    multithread: bool
    multiprocess: bool
    hands_off: bool
