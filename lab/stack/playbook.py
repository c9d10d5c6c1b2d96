"""`lab up` and `lab down`: Ansible's playbooks, run with nothing of the user's own Ansible settings.

All the work is in `provisioning/`; this starts it, keeps two runs from meeting, and shows the result.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from lab import settings
from lab.stack import engine, parts, status
from lab.stack.parts import Part

GOOD, BAD = 0, 2
PROVISIONING = settings.CHECKOUT / "provisioning"
PLACES = ("auto", "containers", "local", "vms")


class RefusalError(Exception):
    """The stack cannot be brought up or down; the text says why and what to do."""


def up(place: str = "auto", extra: Sequence[str] = ()) -> int:
    """Bring the stack up and show what runs where. 0 when every part answers, else 2.

    `extra` are more arguments of ansible-playbook, such as `--extra-vars`.
    """
    try:
        place = choose(place)
        for port in settings.PORTS:
            _ = port.number  # raises SettingError before anything has started
        code = play("site.yml", [*inventory_of(place), *extra])
    except (RefusalError, settings.SettingError) as error:
        return refuse(str(error))
    # On hosts each has said itself what runs there.
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
        code = play("down.yml", [*inventory_of(place), *(["--extra-vars", '{"lab_remove": true}'] if remove else [])])
    except RefusalError as error:
        return refuse(str(error))
    if code == GOOD and place == "vms":
        print("The lab is down on its hosts." if not remove else "The lab is gone from its hosts.")
    elif code == GOOD:
        print(f"The lab is down. Logs and measurements stay in {parts.STATE_DIR}.")
    return code


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
    if sys.platform != "linux":
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


def inventory_of(place: str) -> list[str]:
    """Ansible's arguments for the hosts of the place. Raises RefusalError."""
    if place != "vms":
        return ["--inventory", str(PROVISIONING / "inventories" / place)]
    ours = PROVISIONING / "inventories" / "vms"
    usual = Path("hosts.yml") if settings.INSTALLED else ours / "hosts.yml"
    hosts = Path(os.environ.get("LAB_INVENTORY", usual)).expanduser().resolve()
    if not hosts.is_file():
        raise RefusalError(
            f"the vms place needs an inventory of your hosts: copy {ours / 'hosts.example.yml'} to {hosts} "
            "and put them in it, or set LAB_INVENTORY to a file of yours"
        )
    return ["--inventory", str(ours / "groups.yml"), "--inventory", str(hosts)]


def play(playbook: str, extra: Sequence[str] = ()) -> int:
    """Run one playbook; 0 if it succeeded, else 2. Ansible has said then what was wrong."""
    if find_spec("ansible") is None:
        raise RefusalError(f"the Python package 'ansible' is missing: `{settings.SETUP}` installs what the lab needs")
    environment = ansible_environment()
    with alone() as lock:
        command = [sys.executable, "-m", "ansible", "playbook", str(PROVISIONING / playbook), *extra]
        # Ansible refuses to work on terminals and pipes that somebody has set to non-blocking.
        for descriptor in (1, 2):
            os.set_blocking(descriptor, True)
        # Ansible holds the lock too: should we be killed, nobody else starts before it has ended.
        with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, pass_fds=[lock]) as ansible:
            try:
                return GOOD if ansible.wait() == 0 else BAD
            except KeyboardInterrupt:
                ansible.wait()
                return refuse(f"interrupted: `{settings.UP}` goes on from here, `{settings.DOWN}` clears up")


def ansible_environment() -> dict[str, str]:
    """The environment of ansible-playbook: ours, with every file that it writes under the state folder."""
    home = parts.STATE_DIR / "ansible"
    # What a user has set for other work (callbacks, vault, strategy) must not change the lab.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    return {
        **inherited,
        "LC_ALL": "C.UTF-8",  # Ansible does not start in a locale of another encoding
        "ANSIBLE_CONFIG": str(PROVISIONING / "ansible.cfg"),
        "ANSIBLE_HOME": str(home),
        "ANSIBLE_LOCAL_TEMP": str(home / "tmp"),
        "ANSIBLE_REMOTE_TEMP": str(home / "tmp"),
        "LAB_STATE_DIR": str(parts.STATE_DIR),
        "LAB_SUPERVISOR_SOCKET": str(parts.socket_path()),
    }


@contextmanager
def alone() -> Iterator[int]:
    """Hold the state folder's lock: two runs at once would undo each other's work."""
    path = parts.STATE_DIR / "lock"
    make_folder(path.parent)
    with path.open("w", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RefusalError("another `lab up` or `lab down` is at work: wait until it has ended") from None
        yield file.fileno()


def make_folder(folder: Path) -> None:
    """Make the state folder. Raises RefusalError where that is not allowed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RefusalError(f"{folder}: {error.strerror}; set LAB_STATE_DIR to a folder of yours") from None


def refuse(text: str) -> int:
    """Say why not, in one line."""
    sys.stderr.write(f"lab: {text}\n")
    return BAD
