"""Ports of the stack that other programs hold, which programs, and the variable that moves each.

The role `preflight` runs this before anything has started: `python -m lab.stack.ports PLACE`.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import shlex
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from lab import settings
from lab.settings import Port
from lab.stack import containers, parts
from lab.stack.leftovers import environment, ours
from lab.state_folder import user_name

MOST_LISTED = 4
LISTENING = "0A"
"""State of a listening socket in /proc/net/tcp."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Ports that the stack cannot have, for one and the same reason."""

    ports: tuple[Port, ...]
    reason: str
    """Begins with "is", as for one port."""
    advice: str = ""
    """A remedy beside other ports."""

    def __str__(self) -> str:
        return f"{self.subject} of {self.detail}: {self.remedy}"

    @property
    def subject(self) -> str:
        """Return the ports, as a heading has them."""
        numbers = sorted(port.number for port in self.ports)
        if len(numbers) > MOST_LISTED:
            return f"{len(numbers)} ports from {numbers[0]} to {numbers[-1]}"
        return f"port{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"

    @property
    def detail(self) -> str:
        """Return the parts whose ports they are, and the reason."""
        reason = self.reason if len(self.ports) == 1 else self.reason.replace("is ", "are ", 1)
        names = [port.part for port in self.ports]
        if len(names) > MOST_LISTED:
            names = [f"{names[0]} and {len(names) - 1} others"]
        return f"{', '.join(names)} {reason}"

    @property
    def remedy(self) -> str:
        """Return the remedy."""
        first, *others = (port.variable for port in self.ports)
        if not others:
            return f"move it with {first}=PORT, or {self.advice or 'free the port'}"
        return f"move them with {first}=PORT and so on (README, *Several people*), or {self.advice or 'free the ports'}"


def conflicts(ports: Iterable[Port]) -> list[Conflict]:
    """The ports that cannot be had, those of one holder together; what our own running stack holds is no conflict.

    Raises SettingError where a variable holds no port number.
    """
    wanted = list(ports)
    refused = {port: code for port in wanted if (code := refusal(port.number))}
    holders = listening() if refused else {}
    mine = {process.pid for process in ours()} if refused else set()
    published = containers.published_ports() if refused else set()
    together: dict[tuple[str, str], list[Port]] = {}
    for port, code in refused.items():
        pid = holders.get(port.number)
        if port.number not in published and (pid is None or pid not in mine):
            together.setdefault(held(code, pid, port.number), []).append(port)
    return [*twice(wanted), *(Conflict(tuple(ports), *why) for why, ports in together.items())]


def held(code: int, pid: int | None, number: int) -> tuple[str, str]:
    """Return why a port cannot be had, and a remedy; another stack's ports all have the same."""
    reason = explain(code, pid)
    if "docker-proxy" in reason:  # a process of each port
        return "is taken by containers", "stop those that `docker ps` shows"
    if state_dir := state_dir_of(pid):
        return (
            f"is taken by another lab, whose state is in {state_dir}",
            f"`LAB_STATE_DIR={shlex.quote(state_dir)} lab down`",
        )
    user = user_of(number) if pid is None and code != errno.EACCES else None
    if user is not None and user != os.geteuid():
        return f"is taken by a process of {user_name(user)}", ""
    return reason, ""


def state_dir_of(pid: int | None) -> str:
    """Return the state folder of the stack that a process belongs to; empty for any other process."""
    try:
        return environment(psutil.Process(pid)).get(parts.MARK, "") if pid else ""
    except psutil.Error:
        return ""


def user_of(number: int) -> int | None:
    """Return the user number of whoever listens on a port, which Linux says of all processes; None elsewhere."""
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        with contextlib.suppress(OSError):
            for line in table.read_text(encoding="ascii").splitlines()[1:]:
                _, address, _, state, *_ = fields = line.split()
                if state == LISTENING and int(address.rpartition(":")[2], 16) == number:
                    return int(fields[7])
    return None


def refusal(number: int, host: str = settings.HOST) -> int:
    """The errno with which the kernel refuses to listen on the port; 0 if it does not."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the servers do: connections of the past in TIME_WAIT are no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
            probe.listen()
        except OSError as error:
            return error.errno or errno.EADDRINUSE
    return 0


def twice(ports: list[Port]) -> list[Conflict]:
    """Two parts that were given the same port."""
    first: dict[int, Port] = {}
    found = []
    for port in ports:
        other = first.setdefault(port.number, port)
        if other is not port:
            found.append(Conflict((port,), f"is also given to {other.part} ({other.variable})"))
    return found


def listening() -> dict[int, int]:
    """Return the listening processes: pid by port. Without root, other users' processes cannot be seen."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:  # macOS without root
        return {}
    return {
        connection.laddr.port: connection.pid
        for connection in connections
        if connection.laddr and connection.pid and connection.status == psutil.CONN_LISTEN
    }


def explain(code: int, pid: int | None) -> str:
    """Return what is the matter, with the holder's name where it can be seen."""
    if code == errno.EACCES:
        return "is below 1024, which needs root"
    if pid is None:
        return "is taken by a process that this user cannot see"
    try:
        return f"is taken by {psutil.Process(pid).name()} (pid {pid})"
    except psutil.Error:
        return f"is taken by pid {pid}"


def main(arguments: list[str] | None = None) -> int:
    """Print a line for each conflict; 0 without, 2 with."""
    parser = argparse.ArgumentParser(prog="python -m lab.stack.ports", description=__doc__)
    parser.add_argument("place", choices=("local", "containers"))
    found = conflicts(parts.ports(parser.parse_args(arguments).place))
    for conflict in found:
        print(conflict)
    return 2 if found else 0


if __name__ == "__main__":
    sys.exit(main())
