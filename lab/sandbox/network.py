"""Inside the sandbox: two network namespaces, `server` and `client`, joined by a veth pair.

    client 10.77.0.2 ── veth ── 10.77.0.1 server

A namespace lives as long as the file descriptor that holds it, or a process or socket in it. Its kernel counters
start from zero and its `net.*` sysctls are its own, so every trial gets a new pair. Linux keeps the namespace for
each thread: `with server.entered():` moves the calling thread for a while, and what it creates meanwhile (a socket,
a process) belongs there for good.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CLONE_NEWNET = 0x40000000
SERVER_ADDRESS, CLIENT_ADDRESS = "10.77.0.1", "10.77.0.2"
PREFIX_BITS = 16
"""Room for many client addresses: one address has some 28,000 ports to connect from."""
SETUP_SECONDS = 10.0

_libc = ctypes.CDLL(None, use_errno=True)


class NetworkError(Exception):
    """The kernel refused a namespace, an interface or a sysctl; the text names it."""


class Namespace:
    """A network namespace. A context manager: closing it lets go of it."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.descriptor = _new_namespace()

    def __enter__(self) -> Self:
        """Itself, made already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go. What still runs or is connected in there keeps it alive until it ends."""
        os.close(self.descriptor)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Have the calling thread in here for a while, and then where it was before."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _set_namespace(self.descriptor)
            try:
                yield
            finally:
                _set_namespace(before)
        finally:
            os.close(before)

    def socket(self, kind: int = socket.SOCK_STREAM, family: int = socket.AF_INET, protocol: int = 0) -> socket.socket:
        """A socket of this namespace; it stays one, whichever thread uses it."""
        with self.entered():
            return socket.socket(family, kind, protocol)

    def run(self, *command: str) -> str:
        """Return what `command` prints, run in here. Raises NetworkError with its last words."""
        with self.entered():
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SETUP_SECONDS)
        if done.returncode:
            raise NetworkError(f"{' '.join(command)} in {self.name}: {done.stderr.strip() or done.returncode}")
        return done.stdout

    def set_sysctls(self, settings: Mapping[str, int | str]) -> None:
        """Write sysctls such as `net.core.somaxconn` for this namespace alone. Raises NetworkError."""
        for name, value in settings.items():
            try:
                with self.entered():
                    _sysctl_file(name).write_text(str(value), encoding="ascii")
            except OSError as error:
                raise NetworkError(f"sysctl {name}={value} in {self.name}: {error.strerror}") from error

    def sysctl(self, name: str) -> int | None:
        """The first number of a sysctl as it is in here; None where this kernel has no such."""
        try:
            with self.entered():
                return int(_sysctl_file(name).read_text(encoding="ascii").split()[0])
        except FileNotFoundError:
            return None

    def counters(self) -> dict[str, int]:
        """The kernel's TCP counters of this namespace since it was made: TcpExt and Tcp, by their own names."""
        with self.entered():
            files = [Path(f"/proc/thread-self/net/{name}").read_text(encoding="ascii") for name in ("netstat", "snmp")]
        return parse_counters("".join(files))


def parse_counters(text: str) -> dict[str, int]:
    """The TcpExt and Tcp lines of /proc/net/netstat and snmp: names on one line, values on the next."""
    lines = [line.split() for line in text.splitlines() if line.startswith(("TcpExt:", "Tcp:"))]
    return {
        name: int(value)
        for names, values in zip(lines[::2], lines[1::2], strict=True)
        for name, value in zip(names[1:], values[1:], strict=True)
    }


@contextlib.contextmanager
def pair(
    server_sysctls: Mapping[str, int | str] | None = None, client_sysctls: Mapping[str, int | str] | None = None
) -> Iterator[tuple[Namespace, Namespace]]:
    """New namespaces `server` and `client`, up and joined. Raises NetworkError."""
    with Namespace("server", SERVER_ADDRESS) as server, Namespace("client", CLIENT_ADDRESS) as client:
        _join(server, client)
        _settle(server, server_sysctls or {})
        _settle(client, client_sysctls or {})
        yield server, client


def _join(server: Namespace, client: Namespace) -> None:
    with client.entered():
        # `ip` takes the number of a process, and a sleeping one in there is the plainest way to have one.
        anchor = subprocess.Popen(["sleep", str(SETUP_SECONDS)], stdin=subprocess.DEVNULL)
    try:
        server.run("ip", "link", "add", "server0", "type", "veth", "peer", "name", "client0", "netns", str(anchor.pid))
    finally:
        anchor.kill()
        anchor.wait()
    for side, interface in ((server, "server0"), (client, "client0")):
        side.run("ip", "address", "add", f"{side.address}/{PREFIX_BITS}", "dev", interface)
        side.run("ip", "link", "set", interface, "up")
        side.run("ip", "link", "set", "lo", "up")


def _settle(side: Namespace, settings: Mapping[str, int | str]) -> None:
    # A duplicate address check of IPv6 would only delay us, and its messages would stand in every capture.
    quiet: dict[str, int | str] = {"net.ipv6.conf.all.disable_ipv6": 1} if Path("/proc/sys/net/ipv6").exists() else {}
    side.set_sysctls(quiet | dict(settings))


def _sysctl_file(name: str) -> Path:
    return Path("/proc/sys") / name.replace(".", "/")


def _new_namespace() -> int:
    """A descriptor of a new namespace, made by a thread of its own, since it moves the thread that asks."""
    made: list[int | OSError] = []

    def make() -> None:
        if _libc.unshare(CLONE_NEWNET):
            made.append(OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno())))
        else:
            made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    (result,) = made
    if isinstance(result, OSError):
        raise NetworkError(f"a new network namespace: {result.strerror}")
    return result


def _set_namespace(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        raise NetworkError(f"entering a network namespace: {os.strerror(ctypes.get_errno())}")
