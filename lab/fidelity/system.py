"""A side of a row, a model or a real server: its name, how it is started, spoken to and observed."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lab.fidelity.speech import MEMCACHE, REDIS, Speech, http
from lab.peers import model as our_models
from lab.peers.owner import EPOLL
from lab.peers.process import Plan, running
from lab.peers.routes import LONG_BYTES
from lab.settings import CHECKOUT, HOST
from lab.stack import unix_socket

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from lab.peers.process import Peer

OURS = http(f"/stream?bytes={LONG_BYTES}", "/work?block=6s")
CHANGE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class System:
    """A model of ours with its options, or a real server with its."""

    name: str
    """The system of which rows are counted: nginx, redis, …"""
    label: str
    """Column of the table: with the options."""
    start: Callable[[], AbstractContextManager[Peer]]
    speech: Speech = field(default_factory=http)
    owned_by: str = EPOLL
    """How a connection's owner is found (lab/peers/owner.py)."""
    graceful: signal.Signals = signal.SIGTERM
    """The signal that asks it to finish what is begun, and to end."""
    reload: Callable[[Peer], None] | None = None
    """Has it replace its workers while it serves; None: it cannot."""
    prepare: Callable[[Peer], object] = id
    """Called once it runs, before anything is asked: puts in place what a long response needs."""
    last_signal: signal.Signals = signal.SIGKILL
    """The signal for its end when all is measured: nobody waits for it to drain."""


def ours(name: str, speech: Speech = OURS, **options: object) -> System:
    """Return a model of ours. The options are those of `lab serve`."""
    words = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
    label = " ".join([name, *(f"--{key.replace('_', '-')} {value}" for key, value in options.items())])
    return System(name, label, lambda: our_models.start(name, *words), speech, reload=change_options)


def ours_for_memcache(**options: object) -> System:
    """Return our memcached, spoken to as one."""
    return ours("memcached", MEMCACHE, **options)


def forking_store(sharing: str = "private") -> System:
    """Return the store of the experiment copy-on-write, behind a socket."""
    command = [sys.executable, "-m", "lab.fidelity.forking_store", HOST]
    plan = Plan("forking-store", lambda folder, port: _in(folder, [*command, str(port), sharing]))
    return System("copy-on-write", f"copy-on-write, {sharing} mapping", lambda: running(plan, 0, None), REDIS)


def _in(folder: Path, command: list[str]) -> list[str]:
    """Return the command, run in its own folder, where its snapshot goes."""
    return ["env", f"PYTHONPATH={CHECKOUT}", "-C", str(folder), *command]


def change_options(peer: Peer) -> None:
    """Reload a model: a change of options, to the same value here, has new workers take over. Raises OSError."""
    with unix_socket.connect(peer.folder / "state" / "control.sock", CHANGE_SECONDS) as control:
        control.sendall(json.dumps({"set": {"drain": "10"}}).encode() + b"\n")
        with control.makefile(encoding="utf-8") as lines:
            response = json.loads(lines.readline() or "{}")
    if "options" not in response:
        raise OSError(f"{peer.name} refuses the change: {response.get('error', 'it says nothing')}")


def signalled(number: signal.Signals) -> Callable[[Peer], None]:
    """Return the reload of a server that does so at a signal to its main process."""
    return lambda peer: os.kill(peer.pid, number)
