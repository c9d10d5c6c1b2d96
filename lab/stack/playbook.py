"""Ansible's playbooks, run with nothing of the user's own Ansible settings."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from lab import machines, settings, state_folder
from lab.stack import parts

PROVISIONING = settings.CHECKOUT / "provisioning"
FOLDERS = (settings.CHECKOUT, parts.STATE_DIR)
"""Folders whose paths Ansible reads."""
GROUPS = ("models", "observability", "loadgen")
"""Of the hosts of the vms place."""
MEMORY = Path("/dev/shm")
"""Where Linux has files that are on no disk."""


class RefusalError(Exception):
    """The stack cannot be brought up or down; the text says why and what to do."""


def inventory_of(place: str) -> list[str]:
    """Ansible's arguments for the hosts of the place. Raises RefusalError."""
    if place != "vms":
        return ["--inventory", f"inventories/{place}"]
    ours = PROVISIONING / "inventories" / "vms"
    usual = Path("hosts.yml") if settings.INSTALLED else ours / "hosts.yml"
    hosts = Path(os.path.realpath(Path(settings.variable("LAB_INVENTORY", str(usual))).expanduser()))
    if not hosts.is_file():
        raise RefusalError(
            f"the vms place needs an inventory of your hosts: copy {ours / 'hosts.example.yml'} to {hosts} "
            "and put them in it, or set LAB_INVENTORY to a file of yours"
        )
    inventory = ["--inventory", "inventories/vms/groups.yml", "--inventory", str(hosts)]
    check_hosts(hosts, inventory)
    return inventory


def check_hosts(file: Path, inventory: Sequence[str]) -> None:
    """Raise RefusalError where no host, or not every host, has anything to do: a success then would mean nothing."""
    command = ansible("inventory", *inventory, "--list")
    listed = subprocess.run(
        command, cwd=PROVISIONING, env=ansible_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if listed.returncode:
        return  # Ansible says itself what is wrong with it, when it plays
    found = json.loads(listed.stdout)
    busy = {host for group in GROUPS for host in found.get(group, {}).get("hosts", [])}
    every = {host for group in found.values() for host in group.get("hosts", [])}
    if not busy:
        raise RefusalError(f"{file} has no host in any of the groups {', '.join(GROUPS)}")
    if idle := sorted(every - busy):
        raise RefusalError(f"{file}: {', '.join(idle)} is in none of the groups {', '.join(GROUPS)}")


def play(playbook: str, arguments: Sequence[str], lock: int) -> int:
    """Run one playbook; 0 if it succeeded, else 2. Ansible has said then what was wrong."""
    # By its name, in its folder: Ansible expands $NAME in paths, and takes a comma in an inventory's for a list.
    command = ansible("playbook", playbook, *arguments)
    # Ansible refuses to work on terminals and pipes that somebody has set to non-blocking.
    for descriptor in (1, 2):
        os.set_blocking(descriptor, True)
    # Ansible holds the lock too: should we be killed, nobody else starts before it has ended.
    with subprocess.Popen(
        command, cwd=PROVISIONING, env=ansible_environment(), stdin=subprocess.DEVNULL, pass_fds=[lock]
    ) as process:
        try:
            return 0 if process.wait() == 0 else 2
        except KeyboardInterrupt:
            process.wait()
            raise


def ansible(*words: str) -> list[str]:
    """Return a command of Ansible's. Raises RefusalError where it is not installed."""
    if find_spec("ansible") is None:
        raise RefusalError(f"the Python package 'ansible' is missing: `{settings.SETUP}` installs what the lab needs")
    return [sys.executable, "-m", "ansible", *words]


def ansible_environment() -> dict[str, str]:
    """The environment of ansible-playbook: ours, with every file that it writes under the state folder."""
    home = ansible_home(parts.STATE_DIR)
    # Without it macOS may end a process that Ansible forks (Ansible's FAQ, "Running on macOS as a control node").
    ours = {} if machines.LINUX else {"OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES"}
    return {
        **{name: value for name, value in os.environ.items() if is_inherited(name, value) and not is_named(name)},
        **ours,
        "LC_ALL": machines.UTF8_LOCALE,  # Ansible does not start in a locale of another encoding
        "ANSIBLE_CONFIG": str(PROVISIONING / "ansible.cfg"),
        "ANSIBLE_HOME": str(home),
        "ANSIBLE_LOCAL_TEMP": str(home / "tmp"),
        "ANSIBLE_REMOTE_TEMP": str(home / "tmp"),
        "LAB_STATE_DIR": str(parts.STATE_DIR),
    }


def is_inherited(name: str, value: str) -> bool:
    """Return whether Ansible is to have a variable of ours."""
    # What a user has set for other work (callbacks, vault, an encoding of the output) must not change the lab.
    if name.startswith("ANSIBLE_") or name == "PYTHONIOENCODING":
        return False
    # For Ansible's look-ups a variable that is empty is set.
    return bool(value) or not name.startswith(("LAB_", "COMPOSE_"))


@cache
def ansible_home(state_dir: Path) -> Path:
    """Return the folder for what Ansible writes: of the state, or, where that takes nothing, one that ends with us.

    Stopping needs no room on a disk.
    """
    home = state_dir / "ansible"
    if not state_folder.is_full(home):
        return home
    made = tempfile.mkdtemp(prefix="lab-ansible-", dir=MEMORY if MEMORY.is_dir() else None)
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


def is_named(variable: str) -> bool:
    """Return whether the path of a folder of the lab has $VARIABLE in it, which Ansible would expand."""
    return any(f"${form}" in str(folder) for folder in FOLDERS for form in (variable, f"{{{variable}}}"))
