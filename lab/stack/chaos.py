"""`lab chaos`: inject a fault into a running model, and see who notices.

`kill` ends it as kill -9 does, and whoever supervises it starts it again; `pause` stops it where it is, so that the
kernel goes on accepting for it until its queues are full; `resume` lets it go on. The admin process is
spared: it shows what happens. With a worker's number only that worker is hit, if it is a process.

In containers /state gives the pids that processes have in their container, so they are signalled from in there.
"""

from __future__ import annotations

import signal
from enum import StrEnum
from typing import Any

import httpx
import psutil

from lab import settings
from lab.stack import containers, inside, status, supervision

STATE_SECONDS = 2.0


class Action(StrEnum):
    """Faults that a running model can be given, and their end."""

    kill = "kill"
    pause = "pause"
    resume = "resume"


SIGNALS = {Action.kill: signal.SIGKILL, Action.pause: signal.SIGSTOP, Action.resume: signal.SIGCONT}
DONE = {
    Action.kill: "killed {whom}: it is started again, as `lab status` and `lab top` show",
    Action.pause: "paused {whom}: queues fill, as `lab top` shows, until `lab chaos resume {again}`",
    Action.resume: "resumed {whom}",
}


class ChaosError(Exception):
    """It cannot be done; the text says why and what to do."""


def inject(action: Action, model: str, worker: int | None = None) -> str:
    """Do it, and say in a line what was done. Raises ChaosError."""
    state = state_of(model)
    pids = everyone(state) if worker is None else [pid_of_worker(state, worker)]
    if action is Action.kill:
        pids = pids[:1]  # the rest ends with main
    deliver(model, SIGNALS[action], pids)
    whom = model if worker is None else f"{model}'s worker {worker}"
    again = model if worker is None else f"{model} --worker {worker}"
    return DONE[action].format(whom=f"{whom} (pid {pids[0]})", again=again)


def state_of(model: str) -> dict[str, Any]:
    """Return what its admin process says of it. Raises ChaosError when it does not run."""
    try:
        url = f"{settings.ADMIN_PORTS[model].url}/state"
        state: dict[str, Any] = httpx.get(url, timeout=STATE_SECONDS, trust_env=False).raise_for_status().json()
    except (httpx.HTTPError, ValueError):
        raise ChaosError(f"{model} does not run here, or not well: see `lab status`; `lab up` starts it") from None
    return state


def everyone(state: dict[str, Any]) -> list[int]:
    """Main, and its workers that are processes."""
    return list(dict.fromkeys([state["pid"], *(worker["pid"] for worker in state["workers"])]))


def pid_of_worker(state: dict[str, Any], number: int) -> int:
    """The worker's process. Raises ChaosError where it has none of its own."""
    workers = {worker["worker"]: worker for worker in state["workers"]}
    worker = workers.get(str(number))
    if worker is None:
        raise ChaosError(f"{state['model']} has no worker {number}; it has {', '.join(workers)}")
    if worker["pid"] == state["pid"]:
        raise ChaosError(
            f"{state['model']}'s workers are threads, which have no process of their own: leave out --worker"
        )
    return int(worker["pid"])


def deliver(model: str, number: signal.Signals, pids: list[int]) -> None:
    """Signal processes of the model, and no others. Raises ChaosError where the stack does not run it."""
    if status.place() == containers.PLACE:
        deliver_inside(model, number, pids)
        return
    try:
        main = supervision.pid_of(model)
        ours = {main, *(child.pid for child in psutil.Process(main).children(recursive=True))} if main else set()
    except (OSError, psutil.NoSuchProcess):
        ours = set()
    if not ours.issuperset(pids):
        raise not_ours(model)
    for pid in pids:
        psutil.Process(pid).send_signal(number)


def deliver_inside(model: str, number: signal.Signals, pids: list[int]) -> None:
    """The same in the model's container. Raises ChaosError."""
    # Else these would be the pids of another server, and mean some other process in the container.
    if settings.ADMIN_PORTS[model].number not in containers.published_ports():
        raise not_ours(model)
    try:
        inside.send_signal(model, number, pids)
    except inside.InsideError as error:
        raise ChaosError(str(error)) from None
    except ProcessLookupError:
        raise ChaosError(f"{model} has just lost a process that was to have the signal: try again") from None


def not_ours(model: str) -> ChaosError:
    """Somebody else's server is where the model's should be."""
    return ChaosError(f"port {settings.ADMIN_PORTS[model].number} is answered by a {model} that `lab up` did not start")
