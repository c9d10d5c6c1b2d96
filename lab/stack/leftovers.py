"""Ending the local stack, or what was left of it, without touching any other process.

supervisord's children live on when it is killed, so they are found by the mark in their environment.
"""

from __future__ import annotations

import contextlib
import os
import time

import psutil

from lab.stack import parts, supervision

END_SECONDS = 20.0
"""Longer than a server's drain (10 s by default)."""
KILL_SECONDS = 5.0


def ours() -> list[psutil.Process]:
    """Every process of this stack, supervisord first."""
    # Whoever runs `lab` from within a part of the stack must not end itself.
    spared = {os.getpid(), *(process.pid for process in psutil.Process().parents())}
    found = [process for process in psutil.process_iter() if process.pid not in spared and is_ours(process)]
    return sorted(found, key=lambda process: part_of(process) != "")


def is_ours(process: psutil.Process) -> bool:
    """Return whether the process carries this stack's mark. Other users' processes cannot be read and are not ours."""
    return environment(process).get(parts.MARK) == str(parts.STATE_DIR)


def part_of(process: psutil.Process) -> str:
    """The part that the process belongs to; empty for supervisord itself."""
    return environment(process).get("SUPERVISOR_PROCESS_NAME", "")


def environment(process: psutil.Process) -> dict[str, str]:
    """Return the environment that the process was started with; empty where that cannot be read."""
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}


def recover() -> list[str]:
    """End what is left of a stack whose supervisord does not answer. A stack that works is left alone."""
    return [] if supervision.answers() else end()


def end() -> list[str]:
    """End the whole stack and wait until it is gone; one line for each thing that was done."""
    done = []
    if supervision.shut_down(END_SECONDS):
        done.append("stopped supervisord and the parts that it ran")
    left = end_processes(ours())
    if left:
        done.append(f"ended {left} processes that had lost their supervisord")
    for path in (parts.SUPERVISOR_SOCKET, parts.PIDFILE, *parts.STATE_DIR.glob("models/*/control.sock")):
        # Stopping needs no disk that can be written to: what lies there then is no process.
        with contextlib.suppress(OSError):
            path.unlink()
            done.append(f"removed {path}")
    return done


def end_processes(processes: list[psutil.Process]) -> int:
    """SIGTERM, then SIGKILL for what does not go. supervisord comes first, or it would restart the others."""
    supervisors = [process for process in processes if not part_of(process)]
    for process in supervisors:
        signal_quietly(process, kill=True)
    psutil.wait_procs(supervisors, timeout=KILL_SECONDS)
    for process in processes:
        signal_quietly(process, kill=False)
    # Asked again, not the list from above: a server may have replaced a worker meanwhile.
    deadline = time.monotonic() + END_SECONDS
    while (alive := ours()) and time.monotonic() < deadline:
        psutil.wait_procs(alive, timeout=0.2)
    for process in alive:
        signal_quietly(process, kill=True)
    psutil.wait_procs(alive, timeout=KILL_SECONDS)
    return len(processes)


def signal_quietly(process: psutil.Process, *, kill: bool) -> None:
    """Signal a process that may just have ended by itself."""
    try:
        process.kill() if kill else process.terminate()
    except psutil.NoSuchProcess:
        return
