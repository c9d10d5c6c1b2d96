"""Our models as sides of rows: any of them, with any of its options."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from lab.fidelity.speech import MEMCACHE, REDIS, Speech, http
from lab.fidelity.system import System
from lab.peers import model as our_models
from lab.peers.process import Plan, running
from lab.peers.routes import LONG_BYTES
from lab.settings import HOST
from lab.stack import unix_socket

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from lab.peers.process import Peer

OURS = http(f"/stream?bytes={LONG_BYTES}", "/work?block=6s")
CHANGE_SECONDS = 30.0


def ours(name: str, speech: Speech = OURS, warm_up: int = 0, **options: object) -> System:
    """Return a model of ours. The options are those of `lab serve`."""
    words = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
    label = " ".join([name, *(f"--{key.replace('_', '-')} {value}" for key, value in options.items())])
    return System(name, label, lambda: _started(name, words), speech, reload=change_options, warm_up=warm_up)


def _started(name: str, words: list[str]) -> AbstractContextManager[Peer]:
    # The admin port has a process of its own, one thread of which wakes four times a second: it would count as woken.
    return our_models.start(name, "--metrics=off", *words)


def ours_for_memcache(**options: object) -> System:
    """Return our memcached, spoken to as one."""
    return ours("memcached", MEMCACHE, 0, **options)


def forking_store(sharing: str = "private") -> System:
    """Return the store of the experiment copy-on-write, behind a socket."""
    command = [sys.executable, "-m", "lab.fidelity.forking_store", HOST]
    plan = Plan("forking-store", lambda folder, port: [*command, str(port), sharing, str(folder / "snapshot")])
    return System("copy-on-write", f"copy-on-write, {sharing} mapping", lambda: running(plan, 0, None), REDIS)


def change_options(peer: Peer) -> Callable[[], None]:
    """Reload a model: a change of options, to the same value here, has new workers take over. Raises OSError."""
    control = unix_socket.connect(peer.folder / "state" / "control.sock", CHANGE_SECONDS)
    control.sendall(json.dumps({"set": {"drain": "10"}}).encode() + b"\n")

    def wait() -> None:
        with control, control.makefile(encoding="utf-8") as lines:
            response = json.loads(lines.readline() or "{}")
        if "options" not in response:
            raise OSError(f"{peer.name} refuses the change: {response.get('error', 'it says nothing')}")

    return wait
