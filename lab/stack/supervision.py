"""Talking to supervisord over its Unix socket."""

from __future__ import annotations

import contextlib
import http.client
import time
import xmlrpc.client
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from lab.stack import parts, unix_socket

CALL_SECONDS = 5.0
STOP_SECONDS = 60.0
POLL_SECONDS = 0.1
LOG_LINES = 15
DOWN_STATES = ("STOPPED", "EXITED", "FATAL", "UNKNOWN")
"""States that supervisord does not leave by itself (supervisord.org, "Process States")."""


@dataclass(frozen=True, slots=True)
class Program:
    """One program as supervisord sees it. `pid` is 0 while it does not run; `since` is in Unix seconds."""

    name: str
    state: str
    pid: int
    since: float
    detail: str


class SupervisorConnection(http.client.HTTPConnection):
    """HTTP over supervisord's socket."""

    def connect(self) -> None:
        """Connect to the socket instead of a host."""
        self.sock = unix_socket.connect(parts.SUPERVISOR_SOCKET, CALL_SECONDS)


class SupervisorTransport(xmlrpc.client.Transport):
    """XML-RPC over supervisord's socket. Unlike supervisor's own transport it never waits for ever."""

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        """A connection to supervisord, whatever the host in the URL."""
        return SupervisorConnection(str(host))


def call(method: str, *arguments: Any) -> Any:
    """One call of supervisord's API. Raises OSError if it does not answer, `xmlrpc.client.Fault` if it refuses."""
    try:
        with xmlrpc.client.ServerProxy("http://supervisord/RPC2", transport=SupervisorTransport()) as proxy:
            return getattr(proxy.supervisor, method)(*arguments)
    except (http.client.HTTPException, xmlrpc.client.ProtocolError) as error:
        raise OSError(f"supervisord's socket gave no proper answer: {error}") from error


def programs() -> list[Program]:
    """Return what supervisord runs, in its order. Raises OSError if there is no supervisord that answers."""
    return [program(entry) for entry in call("getAllProcessInfo")]


def answers() -> bool:
    """Return whether there is a supervisord that responds."""
    try:
        call("getState")
    except OSError:
        return False
    return True


def program(entry: dict[str, Any]) -> Program:
    """One entry of getAllProcessInfo."""
    detail = entry["spawnerr"] or ("" if entry["statename"] == "RUNNING" else entry["description"])
    return Program(entry["name"], entry["statename"], int(entry["pid"]), float(entry["start"]), str(detail))


def shut_down(seconds: float) -> bool:
    """Stop every program at once, then supervisord. False if there was none that answers."""
    try:
        # supervisord's own shutdown stops one program after the other; this stops all together.
        call("stopAllProcesses", False)
        wait(lambda: all(entry.pid == 0 for entry in programs()), seconds)
        pid = call("getPID")
        call("shutdown")
    except (OSError, xmlrpc.client.Fault):
        return False
    return wait(lambda: not psutil.pid_exists(pid), seconds)


def update() -> list[str]:
    """Make supervisord's programs those of its configuration file; one line for each that changed.

    supervisord compares what it runs with what is written, so this also finds a change that an
    interrupted `lab up` wrote and never applied, and it restarts exactly the programs that differ.
    """
    ((added, changed, removed),) = call("reloadConfig")
    for name in (*changed, *removed):
        call("stopProcessGroup", name, False)
    for name in (*changed, *removed):
        wait(lambda name=name: pid_of(name) == 0, STOP_SECONDS)  # type: ignore[misc]
        call("removeProcessGroup", name)
    for name in (*changed, *added):
        call("addProcessGroup", name)
    return [
        *(f"{name}: restarted with its new configuration" for name in changed),
        *(f"{name}: started" for name in added),
        *(f"{name}: removed" for name in removed),
    ]


def start_stopped() -> list[str]:
    """Start every program that is down; one line for each."""
    down = [entry.name for entry in programs() if entry.state in DOWN_STATES]
    for name in down:
        # What cannot be started is FATAL afterwards, with the reason: `missing` tells it.
        with contextlib.suppress(xmlrpc.client.Fault):
            call("startProcess", name, False)
    return [f"{name}: started" for name in down]


def missing(names: Sequence[str]) -> list[str]:
    """Those of the programs that do not answer, or that supervisord does not know."""
    running = {entry.name for entry in programs() if entry.state == "RUNNING"}
    return [name for name in names if name not in running or not parts.PIECES[name].answers()]


def failed() -> list[str]:
    """The programs that supervisord has given up."""
    return [entry.name for entry in programs() if entry.state == "FATAL"]


def pid_of(name: str) -> int:
    """The program's pid; 0 while it does not run."""
    return next((entry.pid for entry in programs() if entry.name == name), 0)


def wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Return whether the condition came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def log_of(name: str) -> str:
    """Where to read what a program says."""
    return str(parts.PIECES[name].log)


def last_lines(name: str) -> str:
    """The end of a part's log, indented."""
    try:
        lines = parts.PIECES[name].log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return "\n".join(f"    {line}" for line in lines[-LOG_LINES:] or ["(it has written nothing)"])
