"""A side of a row, a model or a real server: its name, how it is started, spoken to and observed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from lab.fidelity.speech import Speech, http
from lab.peers.owner import EPOLL
from lab.peers.process import Peer

Reload = Callable[[Peer], Callable[[], None]]
"""Begins a reload, and returns a function that waits for its end where the system tells of it."""


@dataclass(frozen=True, slots=True)
class System:
    """A model of ours with its options, or a real server with its."""

    name: str
    """The system of which rows are counted: nginx, redis, …"""
    label: str
    """Column of the table: with the options."""
    start: Callable[[], AbstractContextManager[Peer]]
    speech: Speech = field(default_factory=http)
    owned_by: str = EPOLL
    """The way to find a connection's owner (lab/peers/owner.py)."""
    graceful: signal.Signals = signal.SIGTERM
    """The signal that asks it to finish what is begun, and to end."""
    reload: Reload | None = None
    """Has it replace its workers while it serves; None: it cannot."""
    prepare: Callable[[Peer], object] = id
    """Called once it runs, before anything is asked: puts in place what a long response needs."""
    warm_up: int = 0
    """Connections made before anything is measured, so that every worker is in its place in the kernel's order."""
    last_signal: signal.Signals = signal.SIGKILL
    """The signal for its end when all is measured: nobody waits for it to drain."""
