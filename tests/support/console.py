"""The live page of a test's own, beside five models of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
from support import plain_http
from support.servers import Server, end_server, start_server
from support.stack import eventually, free_ports, outer_environment

from lab import settings
from services.options import MODELS


@dataclass
class Lab:
    """Models and page, and how to reach them."""

    folder: Path
    ports: dict[str, int]
    servers: dict[str, Server] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    names: str = ""
    """By which the page may be called."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['LAB_CONSOLE_PORT']}"

    @property
    def environment(self) -> dict[str, str]:
        moved = {variable: str(number) for variable, number in self.ports.items()}
        return {**outer_environment(), **moved, "LAB_STATE_DIR": str(self.folder), "LAB_CONSOLE_NAMES": self.names}

    def start_model(self, model: str, *options: str) -> None:
        service, admin = settings.SERVICE_PORTS[model].variable, settings.ADMIN_PORTS[model].variable
        state = self.folder / "models" / model
        state.mkdir(parents=True, exist_ok=True)
        where = ("--port", str(self.ports[service]), "--admin-port", str(self.ports[admin]), "--state-dir", str(state))
        self.servers[model] = start_server(self.folder / "logs", model, *where, *options)

    def end_model(self, model: str) -> None:
        end_server(self.servers.pop(model))

    def start_page(self) -> None:
        with (self.folder / "console.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lab", "console"], cwd=settings.CHECKOUT, env=self.environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        assert eventually(self.answers, 30), (self.folder / "console.log").read_text()

    def answers(self) -> bool:
        try:
            return plain_http.get(f"{self.url}/healthz", trust_env=False).text == "ok\n"
        except httpx.HTTPError:
            return False

    def end_page(self) -> None:
        self.process.terminate()
        assert self.process.wait(15) in {0, -signal.SIGTERM}

    def cpu_seconds(self) -> float:
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system

    def resident_bytes(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)


def start(folder: Path) -> Lab:
    """All five, and the page."""
    variables = [port.variable for port in settings.PORTS]
    lab = Lab(folder, dict(zip(variables, free_ports(len(variables)), strict=True)))
    for model in MODELS:
        lab.start_model(model)
    lab.start_page()
    return lab


def end(lab: Lab) -> None:
    """Everything that `start` has started."""
    try:
        lab.end_page()
    finally:
        for model in list(lab.servers):
            lab.end_model(model)
