"""Our own servers, started as any other: `python -m services MODEL`, on ports of their own choice."""

from __future__ import annotations

import contextlib
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lab.peers.process import POLL_SECONDS, START_SECONDS, Cpus, Peer, PeerError, last_words, launched
from lab.settings import HOST

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

SERVICE = re.compile(r"\bservice (\S+)")
ADMIN = re.compile(r"\badmin (http\S+)")


@contextlib.contextmanager
def start(model: str, *options: str, cpus: Cpus = None, host: str = HOST, module: str = "services") -> Iterator[Peer]:
    """A running `model`, ready. Raises PeerError. `options` are those of `lab serve`; `module` is what to run."""
    with tempfile.TemporaryDirectory(prefix=f"lab-{model}-") as name:
        folder = Path(name)
        command = [sys.executable, "-m", module, model, "--host", host, "--port", "0", "--admin-port", "0"]
        command += ["--state-dir", str(folder / "state"), *options]
        with launched(command, folder, cpus) as process:
            line = _ready_line(model, process, folder)
            service, admin = SERVICE.search(line), ADMIN.search(line)
            port = urlsplit(service[1]).port if service else None
            if port is None:
                raise PeerError(f"{model} did not say where it serves: {line!r}")
            yield Peer(model, port, process.pid, folder, admin[1] if admin else "", host)


def _ready_line(model: str, process: subprocess.Popen[bytes], folder: Path) -> str:
    """The one line that a server prints when every worker can serve."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        first, newline, _ = (folder / "stdout").read_text(encoding="utf-8").partition("\n")
        if newline:
            return first
        if process.poll() is not None:
            raise PeerError(f"{model} ended with {process.returncode} before it was ready: {last_words(folder)}")
        time.sleep(POLL_SECONDS)
    raise PeerError(f"{model} was not ready within {START_SECONDS:.0f} s: {last_words(folder)}")
