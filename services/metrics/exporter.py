"""The admin port: /metrics, /healthz and /state, served by a process of its own.

    workers ── slots (shared memory) ──┐
    kernel ─── sock_diag, /proc ───────┴── admin process ── GET /metrics

It only reads, so watching costs the watched server nothing but its counters, and a scrape never
reaches a random worker: figures of all of them come out of one place, even while all are stalled.
"""

from __future__ import annotations

import json
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.metrics.slots import Slots


@dataclass(frozen=True)
class Description:
    """What the admin process needs to know of its model and cannot read from the slots.

    `options_file`, where given, is JSON that main writes anew when options are changed live.
    """

    model: str
    main_pid: int
    worker_kind: str
    port: int
    admin_host: str
    options: dict[str, Any]
    options_file: Path | None = None

    def current_options(self) -> dict[str, Any]:
        """The options in force now."""
        if self.options_file is None:
            return self.options
        try:
            options: dict[str, Any] = json.loads(self.options_file.read_text())
        except (OSError, ValueError):  # not written yet, or half
            return self.options
        return options


def serve_admin(listener: socket.socket, description: Description, slots: Slots) -> None:
    """Serve the admin port on `listener`. Returns when the listener fails, so in effect never.

    Runs in a process forked for it, which the caller ties to main's life (PR_SET_PDEATHSIG).
    """
    # Ctrl-C reaches the whole foreground group: stay, and show the drain, until main ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Imported here and not above: asyncio and prometheus_client are 8 MiB, which main and every
    # worker would carry, since they import this module for `Description`.
    from services.metrics.admin import run

    run(listener, description, slots)
