"""`lab up` and `lab down`.

What runs where is declared in `provisioning/`, for Ansible. This refuses what cannot work before anything has started,
keeps two runs from meeting, and waits until all that was declared answers. Ending the stack on this machine needs no
Ansible.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lab import machines, settings, state_folder
from lab.folder_names import fault_of
from lab.stack import containers, cpusets, engine, files, leftovers, own_application, parts, ports, settling, status
from lab.stack.parts import Part
from lab.stack.playbook import FOLDERS, RefusalError, inventory_of, play

GOOD, BAD = 0, 2
PLACES = ("auto", "containers", "local", "vms")
MOUNTED = (settings.CHECKOUT / "dashboards" / "prometheus", settings.CHECKOUT / "dashboards" / "grafana")
"""Folders of the checkout that containers read, as users of their own (docker-compose.yml)."""
INTERRUPTED = f"interrupted: `{settings.UP}` goes on from here, `{settings.DOWN}` clears up"


def up(place: str = "auto", extra: Sequence[str] = ()) -> int:
    """Bring the stack up and show what runs where. 0 when every part answers, 1 when one does not, 2 for a refusal.

    `extra` are more arguments of ansible-playbook, such as `--extra-vars`.
    """
    try:
        check_folders()
        place = choose(place)
        check_ports(place)
        own_application.prepare(place)
        # In a codespace there is one that nobody gave.
        os.environ["LAB_CONSOLE_NAMES"] = ",".join(settings.console_names())
        if place == containers.PLACE:
            check_containers()
            os.environ["LAB_APPARMOR"] = engine.apparmor_profile()
        inventory = inventory_of(place)
        with alone() as lock:
            code = play("site.yml", [*inventory, *extra], lock)
            # On hosts each has said itself what runs there.
            if code == GOOD and place != "vms" and "--check" not in extra:
                code = settling.settle(place)
    except (RefusalError, settings.SettingError) as error:
        return refuse(str(error))
    except KeyboardInterrupt:
        return refuse(INTERRUPTED)
    if code == GOOD and "--check" not in extra and place != "vms":
        print("\n".join(where_to_look(status.parts())))
    return code


def down(place: str = "auto", *, remove: bool = False) -> int:
    """End the stack; it is no error if nothing runs. 0 when nothing of it is left, else 2.

    With `remove` the hosts of the vms place lose all that the lab brought there, too.
    """
    try:
        check_place(place)
        check_removal(place, remove=remove)
        if place == "auto":
            place = status.place() or "local"
        with alone() as lock:
            left = end_here(place) if place != "vms" else []
            code = play("down.yml", [*inventory_of(place), *removal(remove)], lock) if place == "vms" else GOOD
    except RefusalError as error:
        return refuse(str(error))
    except KeyboardInterrupt:
        return refuse(INTERRUPTED)
    if left:
        return refuse("; ".join(left))
    if code == GOOD and place == "vms":
        print("The lab is down on its hosts." if not remove else "The lab is gone from its hosts.")
    elif code == GOOD:
        print(f"The lab is down. Logs and measurements stay in {parts.STATE_DIR}.")
    return code


def end_here(place: str) -> list[str]:
    """End what runs on this machine; a line for each thing that is still there."""
    left = end_containers() if place == containers.PLACE else end_processes()
    with contextlib.suppress(OSError):  # stopping needs no disk that can be written to
        parts.DECLARED.unlink(missing_ok=True)
    return left


def end_containers() -> list[str]:
    """End the stack in containers; a line for what is still there."""
    from docker.errors import DockerException

    try:
        return containers.end()
    except (engine.EngineError, DockerException, OSError) as error:
        return [f"the Docker engine does not work: {error}"]


def end_processes() -> list[str]:
    """End the local stack; a line for what is still there."""
    for line in leftovers.end():
        print(f"  {line}")
    left = leftovers.ours()
    return [f"still there: {', '.join(str(process.pid) for process in left)}"] if left else []


def removal(remove: bool) -> list[str]:
    """Ansible's arguments for a `down` that takes everything off the hosts."""
    return ["--extra-vars", '{"lab_remove": true}'] if remove else []


def where_to_look(shown: Sequence[Part]) -> list[str]:
    """Return what runs where, and what is left out: plain lines, so that a narrow terminal cuts no address."""
    return [
        "",
        *(f"  {part.name:<15}{part.state:<10}{part.url or part.detail}" for part in shown),
        "",
        f"  put load on one   {settings.LOAD}, or {settings.LOCUST.url} in a browser",
        f"  look at figures   {settings.STATUS}, or {settings.PROMETHEUS.url}",
        f"  stop              {settings.DOWN}",
        f"  logs and data     {parts.STATE_DIR}",
    ]


def choose(place: str) -> str:
    """The place to bring the stack up in. Raises RefusalError for one that cannot be had.

    `auto` is where it is up already, or else containers where an engine answers, or else the local one.
    """
    check_place(place)
    if place == "vms":
        return place
    there = status.place()
    if place == "auto" and there:
        return there
    if there and there != place:
        raise RefusalError(f"the lab is up already, in the {there} place: `{settings.DOWN}` ends it")
    try:
        if place != "local":
            engine.find()
            return "containers"
    except engine.EngineError as error:
        if place == "containers":
            raise RefusalError(str(error)) from None
    if not machines.LINUX:
        raise RefusalError("the local place needs Linux (epoll, sock_diag), and containers need a Docker engine")
    return "local"


def check_place(place: str) -> None:
    """Raise RefusalError for a place that there is not."""
    if place not in PLACES:
        raise RefusalError(f"place {place!r}: give one of {', '.join(PLACES)}")


def check_removal(place: str, *, remove: bool) -> None:
    """Raise RefusalError where there is nothing that only a removal takes away."""
    if remove and place != "vms":
        raise RefusalError("only the vms place has something to remove: lab down --place vms --remove")


@contextmanager
def alone() -> Iterator[int]:
    """Hold the state folder's lock: two runs at once would undo each other's work.

    It is the folder itself that is locked: that takes no space on a full disk.
    """
    lock = open_folder(parts.STATE_DIR)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RefusalError("another `lab up` or `lab down` is at work: wait until it has ended") from None
        yield lock
    finally:
        os.close(lock)


def open_folder(folder: Path) -> int:
    """Make the state folder if need be, and return a descriptor of it. Raises RefusalError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise RefusalError(state_folder.explain(error)) from None


def check_folders() -> None:
    """Raise RefusalError where the name of a folder is none that other programs can read, or its disk takes nothing."""
    for folder in FOLDERS:
        if fault := fault_of(str(folder)):
            raise RefusalError(f"{fault}: move or rename it")
    try:
        state_folder.require_room(parts.STATE_DIR)
    except OSError as error:
        raise RefusalError(state_folder.explain(error)) from None


def check_ports(place: str) -> None:
    """Raise RefusalError where others hold ports of the place. Raises SettingError for what is no port."""
    if place != "vms" and (found := ports.conflicts(parts.ports(place))):
        raise RefusalError("\n".join(map(str, found)))
    for port in settings.PORTS:
        _ = port.number


def check_containers() -> None:
    """Raise SettingError for processors that are not there, RefusalError where nobody could read what is mounted."""
    cpusets.check()
    try:
        for folder in MOUNTED:
            files.let_all_read(folder)
    except OSError as error:
        raise RefusalError(f"{error.filename}: {error.strerror}; containers read it, so: chmod a+rX it") from None


def refuse(text: str) -> int:
    """Say why not, a line for each reason."""
    sys.stderr.writelines(f"lab: {line}\n" for line in text.splitlines())
    return BAD
