"""A stack of the tests' own: on free ports and in a folder of its own, beside a developer's."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import psutil
from support import plain_http

from lab import settings

UP_SECONDS = 900
PATIENT: dict[str, Any] = {"timeout": 30, "trust_env": False}
"""Of our own requests, on a machine that may be busy."""
PAGE_NAME = "lab.example"
"""By which a forwarder may call a stack's live page."""
INTERRUPTED = "lab: interrupted: `make lab-up` goes on from here, `make lab-down` clears up"


def free_ports(count: int) -> list[int]:
    """Ports that are free, all different, and outside the range that the kernel gives to outgoing connections.

    Nobody holds them until a server does, so tests that run beside one another draw from different ones.
    """
    number, neighbours = (
        int(os.environ.get(f"PYTEST_XDIST_WORKER{what}", default).removeprefix("gw"))
        for what, default in (("", "gw0"), ("_COUNT", "1"))
    )
    ours = range(20000, 30000)[number::neighbours]
    return list(islice(filter(is_free, random.sample(ours, len(ours))), count))


def outer_environment() -> dict[str, str]:
    """Ours, without what is meant for ourselves alone.

    A make above us would hand its settings down to ours, and NiceGUI behaves otherwise where it sees pytest.
    """
    own = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTEST_CURRENT_TEST"}
    return {name: value for name, value in os.environ.items() if name not in own}


def is_free(number: int) -> bool:
    return not accepts(number)


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def serves(port: int) -> bool:
    """Whether an application answers there. Docker's proxy accepts every connection, even where nobody listens behind it."""
    with contextlib.suppress(httpx.HTTPError):
        return plain_http.get(f"http://127.0.0.1:{port}/", **PATIENT).status_code == 200
    return False


def eventually(ask: Callable[[], Any], seconds: float = 60.0, every_seconds: float = 0.2) -> Any:
    """What `ask` answers as soon as that is true; its last answer when time is up."""
    deadline = time.monotonic() + seconds
    while not (answer := ask()) and time.monotonic() < deadline:
        time.sleep(every_seconds)
    return answer


def assert_interrupted(done: subprocess.CompletedProcess[str]) -> None:
    """It ended by saying what to do next, and nothing of ours fell over.

    Ansible's signal handler raises wherever it strikes, and what it strikes may print a traceback through Ansible's own
    files. That is no failure of the lab's.
    """
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == INTERRUPTED
    _, _, traceback = (done.stdout + done.stderr).partition("Traceback")
    assert not [part for part in ("lab", "services", "provisioning") if f"{settings.CHECKOUT}/{part}/" in traceback]


@dataclass
class Stack:
    """The variables of one stack, and the commands on it."""

    folder: Path
    ports: dict[str, int] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=lambda: {"PLACE": "local"})
    """More of the environment. Without it a stack is local, whatever else the machine could have."""

    @property
    def environment(self) -> dict[str, str]:
        moved = {variable: str(number) for variable, number in self.ports.items()}
        own = {"LAB_STATE_DIR": str(self.folder), "LAB_CONSOLE_NAMES": PAGE_NAME}
        return {**outer_environment(), **moved, **own, **self.variables}

    def make(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", *arguments], cwd=settings.CHECKOUT, env={**self.environment, **variables},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=UP_SECONDS,
        )  # fmt: skip

    def lab(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line."""
        return subprocess.run(
            [Path(sys.executable).with_name("lab"), *arguments], cwd=settings.CHECKOUT, env=self.environment,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=UP_SECONDS,
        )  # fmt: skip

    def ensure_up(self, parts: Iterable[str]) -> None:
        """Have all these work; `make lab-up` only if one does not, since that takes Ansible a while."""
        status = self.lab("status", "--json", "--place", self.variables["PLACE"])
        works = (
            {part["name"] for part in json.loads(status.stdout) if part["health"] == "ok"} if status.stdout else set()
        )
        if not works.issuperset(parts):
            done = self.make("lab-up")
            assert done.returncode == 0, done.stdout + done.stderr

    def up_down(self, function: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Call a function of lab.stack.up_down, for what make has no target."""
        code = f"import sys; from lab.stack import up_down; sys.exit(up_down.{function}(*{arguments!r}))"
        return subprocess.run(
            [sys.executable, "-c", code], cwd=settings.CHECKOUT, env=self.environment,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=UP_SECONDS,
        )  # fmt: skip

    def interrupted_up(self, number: signal.Signals, moment: Callable[[], Any]) -> subprocess.CompletedProcess[str]:
        """`lab up`, signalled at that moment with all that it has started, as a terminal does with Ctrl-C.

        Returns when everything that it started has closed its output.
        """
        run = subprocess.Popen(
            [Path(sys.executable).with_name("lab"), "up", "--place", self.variables["PLACE"]],
            cwd=settings.CHECKOUT, env=self.environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert eventually(lambda: moment() or run.poll() is not None, UP_SECONDS, every_seconds=0.02)
            assert run.poll() is None, f"it was quicker than the test: {run.communicate()}"
            os.killpg(run.pid, number)
            output = run.communicate(timeout=UP_SECONDS)
        finally:
            run.kill()
        return subprocess.CompletedProcess(run.args, run.returncode, *output)

    def processes(self, variable: str = "LAB_STACK") -> list[psutil.Process]:
        """Every process that belongs to this stack, found without the lab's own code for it: by its environment.

        With LAB_STATE_DIR, those of `lab` and Ansible, too.
        """
        return [process for process in psutil.process_iter() if self._owns(process, variable)]

    def _owns(self, process: psutil.Process, variable: str) -> bool:
        try:
            return process.environ().get(variable) == str(self.folder)
        except psutil.Error:
            return False

    def pids(self) -> dict[str, int]:
        """The pid of each part's first process; supervisord's own is under ""."""
        found: dict[str, int] = {}
        for process in sorted(self.processes(), key=lambda process: process.create_time()):
            with contextlib.suppress(psutil.Error):  # one that has just ended
                found.setdefault(process.environ().get("SUPERVISOR_PROCESS_NAME", ""), process.pid)
        return found

    def port(self, part: str) -> int:
        return self.ports[f"LAB_{part.upper()}_PORT"]

    def url(self, part: str) -> str:
        return f"http://127.0.0.1:{self.port(part)}"

    def query(self, promql: str) -> list[dict[str, Any]]:
        """What Prometheus answers."""
        answer = plain_http.get(f"{self.url('prometheus')}/api/v1/query", params={"query": promql}, **PATIENT)
        return answer.raise_for_status().json()["data"]["result"]

    def models_with(self, metric: str) -> set[str]:
        """The models that Prometheus has this metric of."""
        return {row["metric"]["model"] for row in self.query(f"count by (model) ({metric})")}

    def state(self, model: str) -> dict[str, Any]:
        """What the model's admin port tells of it."""
        port = self.ports[f"LAB_{model.upper()}_ADMIN_PORT"]
        return plain_http.get(f"http://127.0.0.1:{port}/state", **PATIENT).raise_for_status().json()

    def page_under(self, name: str) -> int:
        """The status that the live page answers a forwarder with, which calls it so and passes on where it is shown."""
        shown = {"Host": name, "Origin": f"https://{name}"}
        return plain_http.get(f"{self.url('console')}/live.json", headers=shown, **PATIENT).status_code

    def seen_on_the_page(self) -> set[str]:
        """The models that the live page sees at work."""
        answer = plain_http.get(f"{self.url('console')}/live.json", **PATIENT)
        models = answer.raise_for_status().json().get("models", {})
        return {name for name, model in models.items() if model["up"]}

    def swarm(self, *users: str, **fields: object) -> None:
        """Press Start in the page of the stack's own Locust, whose figures Prometheus scrapes."""
        form = {"user_count": 5, "spawn_rate": 5, "host": "", "user_classes": users, **fields}
        answer = plain_http.post(f"{self.url('locust')}/swarm", data=form, **PATIENT)
        assert answer.raise_for_status().json()["success"], answer.text

    def stop_swarm(self) -> None:
        plain_http.post(f"{self.url('locust')}/stop", **PATIENT).raise_for_status()
