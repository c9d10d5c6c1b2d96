"""Bringing the units of a host to what is configured: the last step of `lab up --place vms`, run on the host itself.

`python3 units.py < JSON`, where JSON is a list of units as `Unit` has them; with `--check` it only says what it would
do. When a unit has started is compared with when its files were written, so that a change that an interrupted run
wrote and never applied is found too. Python's own library only: the host's interpreter runs this.
"""

from __future__ import annotations

import errno
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

UNIT_DIR = Path("/etc/systemd/system")
OURS = "accept-lab-*.service"
SETTLE_SECONDS = 300.0
POLL_SECONDS = 0.5
PROBE_SECONDS = 5.0
LOG_LINES = 5
NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit, the text of its file, and other files by their paths.

    `restart` and `reload` are files and folders that it must be restarted or reloaded for when they change; `ports`
    has the variable that moves each.
    """

    unit: str
    text: str
    files: dict[str, str] = field(default_factory=dict)
    restart: list[str] = field(default_factory=list)
    reload: list[str] = field(default_factory=list)
    address: str = ""
    ports: dict[str, int] = field(default_factory=dict)
    health: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """State of a unit, from systemd. Times are those of the last start, and of the last start or reload."""

    active: str
    enabled: bool
    started: datetime
    changed: datetime


def settle(units: list[Unit]) -> int:
    """Bring all units to what is configured; a line for each thing done, 1 and a reason where that fails."""
    states = states_of(units)
    if conflicts := [line for unit in units if states[unit.unit].active != "active" for line in taken(unit)]:
        print("\n".join(conflicts))
        return 1
    lines = [*write(units), *remove_others({unit.unit for unit in units})]
    off = [name for name, state in states.items() if not state.enabled]
    systemctl("enable", "--no-reload", off)
    # Once, and after everything else: on a slow host each takes seconds.
    if lines or off:
        systemctl("daemon-reload")
    for line in (*lines, *apply(units)):
        print(line, flush=True)
    return report(wait(units))


def check(units: list[Unit]) -> int:
    """Say what `settle` would write and start."""
    for path, text in files_of(units).items():
        if text_of(path) != text:
            print(f"{path}: would be written")
    for name, state in states_of(units).items():
        if state.active != "active":
            print(f"{name}: would be started")
    return 0


def files_of(units: list[Unit]) -> dict[Path, str]:
    """Every file of the units, by its path."""
    found = {}
    for unit in units:
        found[UNIT_DIR / unit.unit] = unit.text
        found |= {Path(path): text for path, text in unit.files.items()}
    return found


def text_of(path: Path) -> str:
    """Return the text of the file; nothing if there is none."""
    return path.read_text(encoding="utf-8") if path.exists() else ""


def write(units: list[Unit]) -> list[str]:
    """Write the files that differ; a line for each."""
    changed = [path for path, text in files_of(units).items() if text_of(path) != text]
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.new")
        new.write_text(files_of(units)[path], encoding="utf-8")
        new.chmod(0o644)
        new.rename(path)
    return [f"{path}: written" for path in changed]


def taken(unit: Unit) -> list[str]:
    """The ports of a unit that is down and somebody else holds, a line each."""
    return [
        f"port {number} of {unit.unit} is taken: move it with {variable}=PORT, or free the port"
        for variable, number in unit.ports.items()
        if is_taken(unit.address, number)
    ]


def is_taken(address: str, number: int) -> bool:
    """Return whether the kernel refuses to listen there because somebody does already."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, number))
            probe.listen()
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def remove_others(names: set[str]) -> list[str]:
    """Stop and remove the units of a former configuration; a line for each."""
    gone = sorted(path for path in UNIT_DIR.glob(OURS) if path.name not in names)
    systemctl("disable", "--now", [path.name for path in gone])
    for path in gone:
        path.unlink()
    return [f"{path.name}: removed" for path in gone]


def apply(units: list[Unit]) -> list[str]:
    """Start, restart or reload what needs it; a line for each."""
    states = states_of(units)
    verbs: dict[str, list[str]] = {"start": [], "restart": [], "reload": []}
    for unit in units:
        if verb := needed(unit, states[unit.unit]):
            verbs[verb].append(unit.unit)
    systemctl("reset-failed", "", verbs["start"])  # else one that failed too often is not started
    for verb, names in verbs.items():
        systemctl(verb, "--no-block", names)
    return [f"{name}: {verb}ed" for verb, names in verbs.items() for name in names]


def needed(unit: Unit, state: State) -> str:
    """Return what has to be done to the unit: `start`, `restart`, `reload`, or nothing."""
    if state.active != "active":
        return "start"
    if newest([str(UNIT_DIR / unit.unit), *unit.restart]) > state.started:
        return "restart"
    return "reload" if newest(unit.reload) > state.changed else ""


def newest(paths: list[str]) -> datetime:
    """Return the time at which the last of the files was written."""
    return max((datetime.fromtimestamp(Path(path).stat().st_mtime, UTC) for path in paths), default=NEVER)


def wait(units: list[Unit]) -> list[Unit]:
    """The units that do not answer when time is up, or that systemd has given up."""
    deadline = time.monotonic() + SETTLE_SECONDS
    left = units
    while left:
        states = states_of(left)
        left = [unit for unit in left if not answers(unit, states[unit.unit])]
        if time.monotonic() > deadline or any(states[unit.unit].active == "failed" for unit in left):
            break
        time.sleep(POLL_SECONDS if left else 0)
    return left


def answers(unit: Unit, state: State) -> bool:
    """Return whether the unit runs and, where there is something to ask, says that it works."""
    if state.active != "active":
        return False
    if not unit.health:
        return True
    address = urlsplit(unit.health)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=PROBE_SECONDS)
    try:
        connection.request("GET", address.path, headers={"Connection": "close"})
        return connection.getresponse().status < http.client.BAD_REQUEST
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def report(left: list[Unit]) -> int:
    """Say what does not answer, with the end of its log."""
    for unit in left:
        log = run("journalctl", "--unit", unit.unit, "--lines", str(LOG_LINES), "--output", "cat", "--no-pager")
        print(f"{unit.unit} does not answer. The end of its log:")
        print("\n".join(f"    {line}" for line in log.splitlines()))
    return 1 if left else 0


def states_of(units: list[Unit]) -> dict[str, State]:
    """Return the state of each unit, by its name."""
    if not units:
        return {}
    names = [unit.unit for unit in units]
    wanted = "ActiveState,UnitFileState,ActiveEnterTimestamp,StateChangeTimestamp"
    text = run("systemctl", "show", "--timestamp=us+utc", f"--property={wanted}", *names)
    # In the order asked for, with an empty line between them.
    return dict(zip(names, map(state_of, text.strip().split("\n\n")), strict=True))


def state_of(text: str) -> State:
    """One unit's answer."""
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return State(
        active=values.get("ActiveState", ""),
        enabled=values.get("UnitFileState") == "enabled",
        started=moment(values.get("ActiveEnterTimestamp", "")),
        changed=moment(values.get("StateChangeTimestamp", "")),
    )


def moment(text: str) -> datetime:
    """`Mon 2026-11-23 12:13:41.123456 UTC`; NEVER where there is none."""
    return datetime.strptime(text, "%a %Y-%m-%d %H:%M:%S.%f UTC").replace(tzinfo=UTC) if text else NEVER


def systemctl(verb: str, option: str = "", units: Sequence[str] | None = None) -> None:
    """A command to systemd, if it has any units to work on. What it cannot do shows when the units are waited for."""
    if units is None or units:
        run("systemctl", "--quiet", verb, *filter(None, [option]), *(units or ()))


def run(*command: str) -> str:
    """Return what the command prints."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False).stdout


def main() -> int:
    """Settle the units that standard input lists."""
    os.umask(0o022)
    listed: list[dict[str, Any]] = json.load(sys.stdin)
    units = [Unit(**entry) for entry in listed]
    return check(units) if "--check" in sys.argv else settle(units)


if __name__ == "__main__":
    sys.exit(main())
