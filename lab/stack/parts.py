"""The parts of the stack in each place, and where the local place keeps what belongs to them.

Everything is in the state folder (`.lab`, or `LAB_STATE_DIR`).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from lab import settings
from lab.settings import Port
from lab.stack import probe

STATE_DIR = Path(os.path.realpath(settings.STATE_DIR))  # unlike resolve(), says nothing of links in a circle: others do
SUPERVISOR_DIR = STATE_DIR / "supervisor"
PIDFILE = SUPERVISOR_DIR / "supervisord.pid"
SUPERVISOR_CONFIGURATION = SUPERVISOR_DIR / "supervisord.conf"
SUPERVISOR_SOCKET = SUPERVISOR_DIR / "supervisor.sock"
DECLARED = STATE_DIR / "declared.json"
"""The names of the parts that the last `lab up` declared: all of them must answer, whatever a supervisor knows."""
LOG_DIR = STATE_DIR / "logs"

MARK = "LAB_STACK"
"""supervisord gets the state folder in this variable and all that it starts inherits it, so that what
belongs to this stack can be told from everything else, even when supervisord itself is gone."""

PROBE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Piece:
    """One part: the port that people open, and the port and path that say whether it works."""

    name: str
    port: Port
    health_port: Port
    health_path: str

    @property
    def log(self) -> Path:
        """Path of the part's log; supervisord rotates it."""
        return LOG_DIR / f"{self.name}.log"

    def answers(self) -> bool:
        """Return whether the part says that it works. Takes up to `PROBE_SECONDS`."""
        return probe.answers(self.health_port.url, self.health_path, PROBE_SECONDS)


@dataclass(frozen=True, slots=True)
class Part:
    """State of one part. `health` is "ok", "failing" or "-" (nothing to ask); `pid` and figures are 0 while it is down.

    `cpu_percent` is of one core and, like `memory_bytes` (proportional set size; in containers what counts towards
    their limit), of the part's processes together.
    """

    name: str
    place: str
    state: str
    health: str
    url: str
    pid: int
    cpu_percent: float
    memory_bytes: int
    detail: str


PIECES: dict[str, Piece] = {
    **{
        model: Piece(model, port, settings.ADMIN_PORTS[model], "/healthz")
        for model, port in settings.SERVICE_PORTS.items()
    },
    "prometheus": Piece("prometheus", settings.PROMETHEUS, settings.PROMETHEUS, "/-/ready"),
    "locust": Piece("locust", settings.LOCUST, settings.LOCUST, "/"),
    "console": Piece("console", settings.CONSOLE, settings.CONSOLE, "/healthz"),
}
"""Parts that the local place can run, in the order in which it is shown."""

GRAFANA = Piece("grafana", settings.GRAFANA, settings.GRAFANA, "/api/health")
"""Only containers have it."""

LEFT_OUT: dict[str, dict[str, str]] = {
    "local": {"grafana": "needs a container engine, so it is not part of the local place"},
    "containers": {},
}


def pieces(place: str) -> dict[str, Piece]:
    """Return the parts that the place can run, in the order in which they are shown."""
    return PIECES | {GRAFANA.name: GRAFANA} if place == "containers" else PIECES


def ports(place: str = "local") -> list[Port]:
    """Every port of this machine that the place listens on."""
    found = (port for piece in pieces(place).values() for port in (piece.port, piece.health_port))
    return list(dict.fromkeys(found))


def declared() -> list[str]:
    """Return the names of the parts that should run; none where no `lab up` has said so."""
    try:
        names: list[str] = json.loads(DECLARED.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return names
