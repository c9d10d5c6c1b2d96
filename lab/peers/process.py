"""Starting a server as a process: pinned, waited for by connecting, ended by pid, with all its children."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lab.settings import HOST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

START_SECONDS = 20.0
STOP_SECONDS = 5.0
POLL_SECONDS = 0.02
LOG_BYTES_SHOWN = 2000
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)
"""Loaded here: between fork and exec a lock of the loader, held by another thread, would be held for ever."""

Cpus = frozenset[int] | set[int] | None
"""The processors that a server may use; None for all."""


class PeerError(Exception):
    """A server is not installed, did not start, or did not answer; the text says which, and its last words."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A running server."""

    name: str
    port: int
    pid: int
    folder: Path
    """Its own temporary folder: configuration, log, state; removed when it ends."""
    admin_url: str = ""
    """Address of `/metrics` and `/state`; only our own models have it."""
    host: str = HOST

    @property
    def url(self) -> str:
        """Return its URL."""
        return f"http://{self.host}:{self.port}/"


@dataclass(frozen=True, slots=True)
class Plan:
    """Plan to start a server: `command` is made once its folder and port are known."""

    name: str
    command: Callable[[Path, int], Sequence[str]]
    environment: dict[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def running(plan: Plan, port: int, cpus: Cpus) -> Iterator[Peer]:
    """Start the server, yield it once it accepts connections, and end it. Raises PeerError.

    `port` 0 takes a free one.
    """
    port = port or free_port()
    with tempfile.TemporaryDirectory(prefix=f"lab-{plan.name}-") as name:
        folder = Path(name)
        with launched(plan.command(folder, port), folder, cpus, plan.environment) as process:
            wait_until_accepting(plan.name, process, port, folder)
            yield Peer(plan.name, port, process.pid, folder)


@contextlib.contextmanager
def launched(
    command: Sequence[str], folder: Path, cpus: Cpus, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """The process of `command` with its output in `folder`/stdout and `folder`/log, ended at the end."""
    parent = os.getpid()
    with (folder / "stdout").open("wb") as output, (folder / "log").open("wb") as log:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
                preexec_fn=lambda: _before_exec(cpus, parent),
            )
        except OSError as error:
            raise PeerError(f"cannot start {command[0]}: {error}") from error
    try:
        yield process
    finally:
        stop(process)


def _before_exec(cpus: Cpus, parent: int) -> None:
    """In the new process: pin it, and its children with it; allow many connections; do not outlive us."""
    if cpus is not None:
        os.sched_setaffinity(0, cpus)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    die_with(parent, signal.SIGTERM)


def die_with(parent: int, how: signal.Signals) -> None:
    """In a child: have the kernel send it `how` when `parent` dies; end at once if it died before we could ask.

    The kernel looks at the thread that made the child, so that one has to live as long as the child is wanted.
    """
    LIBC.prctl(PR_SET_PDEATHSIG, how)
    if os.getppid() != parent:
        os._exit(1)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the server to end, then make it; what its main process leaves behind goes too."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    # Every server here leads a session of its own, so its group holds its children and nobody else:
    # it is gone when process 1, in a sandbox its init, has buried the last of them.
    deadline = time.monotonic() + STOP_SECONDS
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(process.pid, signal.SIGKILL)
            time.sleep(POLL_SECONDS)


def wait_until_accepting(
    name: str, process: subprocess.Popen[bytes], port: int, folder: Path, host: str = HOST
) -> None:
    """Return when `port` takes a connection. Raises PeerError when the process ends first or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while not accepts(port, host):
        if process.poll() is not None:
            raise PeerError(f"{name} ended with {process.returncode} before it listened: {last_words(folder)}")
        if time.monotonic() > deadline:
            raise PeerError(f"{name} did not listen on {port} within {START_SECONDS:.0f} s: {last_words(folder)}")
        time.sleep(POLL_SECONDS)


def last_words(folder: Path) -> str:
    """The end of what a server wrote."""
    text = (folder / "log").read_bytes() + (folder / "stdout").read_bytes()
    return text[-LOG_BYTES_SHOWN:].decode(errors="replace").strip() or "(it wrote nothing)"


def accepts(port: int, host: str = HOST) -> bool:
    """Return whether somebody accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False


def free_port() -> int:
    """A port that nobody listens on now. For servers that cannot choose one themselves and say which."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def version_of(*command: str) -> str | None:
    """The first line that `command` prints; None when it is not installed."""
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0] if lines and done.returncode == 0 else None
