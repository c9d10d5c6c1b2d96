"""Ports of the stack that other programs hold, which programs, and the variable that moves each.

The role `preflight` runs this before anything has started: `python -m lab.stack.ports PLACE`.
"""

from __future__ import annotations

import argparse
import errno
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

from lab import settings
from lab.settings import Port
from lab.stack import containers, parts
from lab.stack.leftovers import ours


@dataclass(frozen=True, slots=True)
class Conflict:
    """A port that the stack cannot have."""

    port: Port
    reason: str

    def __str__(self) -> str:
        return f"port {self.port.number} of {self.port.part} {self.reason}: {self.remedy}"

    @property
    def remedy(self) -> str:
        """Return the remedy."""
        return f"move it with {self.port.variable}=PORT, or free the port"


def conflicts(ports: Iterable[Port]) -> list[Conflict]:
    """The ports that cannot be had; those that our own running stack holds are no conflict.

    Raises SettingError where a variable holds no port number.
    """
    wanted = list(ports)
    refused = {port: code for port in wanted if (code := refusal(port.number))}
    holders = listening() if refused else {}
    mine = {process.pid for process in ours()} if refused else set()
    published = containers.published_ports() if refused else set()
    found = twice(wanted)
    for port, code in refused.items():
        pid = holders.get(port.number)
        if port.number not in published and (pid is None or pid not in mine):
            found.append(Conflict(port, explain(code, pid)))
    return found


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
            found.append(Conflict(port, f"is also given to {other.part} ({other.variable})"))
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
