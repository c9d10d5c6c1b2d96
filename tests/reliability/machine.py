"""Everything on a machine that a killed command may leave behind, as text that can be compared.

Meant for a sandbox of its own (kills.py), where all that /proc shows is the lab's: no other program's processes,
sockets or namespaces come and go meanwhile, and the network namespace begins without any rule.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

PROC = Path("/proc")
LISTENS = "0A"
"""State of a listening socket in /proc/net/tcp. Source: include/net/tcp_states.h."""
ACCEPTS = 0x10000
"""Flag of a listening socket in /proc/net/unix (__SO_ACCEPTCON)."""
NAMESPACE = re.compile(r"(cgroup|ipc|mnt|net|pid|time|user|uts):\[\d+\]")
UNIT_FOLDERS = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system")
UNITS = "accept-lab*"
RULES = (("nft", "list", "ruleset"), ("iptables-save",), ("ip6tables-save",))
POLL_SECONDS = 0.05

Census = Counter[str]
"""Things by their description, and how many there are of each."""


def census(folders: Sequence[Path]) -> Census:
    """Count everything but the caller and process 1; of files those in `folders`."""
    found: Census = Counter()
    for kind, look in LOOKS.items():
        found.update(f"{kind} {thing}" for thing in look())
    found.update(f"file {path}" for path in files(folders))
    return found


def left(before: Census, folders: Sequence[Path], seconds: float) -> list[str]:
    """Return what there is beyond `before`, once that is nothing or time is up."""
    deadline = time.monotonic() + seconds
    while (more := census(folders) - before) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return sorted(more.elements())


def processes() -> Iterator[str]:
    """Yield the command line of each process; a zombie has none, and is called so."""
    for pid in pids():
        try:
            words = (PROC / pid / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
            name = (PROC / pid / "comm").read_text().strip()
        except OSError:  # it has ended
            continue
        yield b" ".join(words).decode(errors="replace") or f"[{name}]"


def pids() -> list[str]:
    """Return every process but ourselves and process 1."""
    return [path.name for path in PROC.glob("[0-9]*") if int(path.name) not in (1, os.getpid())]


def tcp() -> Iterator[str]:
    """Yield the address of each listening socket, in hexadecimal as the kernel has it."""
    for name in ("tcp", "tcp6"):
        for fields in rows(PROC / "net" / name):
            if fields[3] == LISTENS:
                yield f"{name} {fields[1]}"


def unix() -> Iterator[str]:
    """Yield the path of each Unix socket that listens or has one; of an abstract one it begins with @."""
    for fields in rows(PROC / "net/unix"):
        path = fields[7] if len(fields) > 7 else ""
        if path or int(fields[3], 16) & ACCEPTS:
            yield path or "(without a path)"


def rows(table: Path) -> list[list[str]]:
    """Return the fields of a table of the kernel's, without its head; none where this kernel has no such table."""
    try:
        return [line.split() for line in table.read_text(encoding="ascii", errors="replace").splitlines()[1:]]
    except OSError:
        return []


def namespaces() -> set[str]:
    """Return every namespace that a process is in, that a descriptor holds, or that is mounted."""
    held = (link for process in PROC.glob("[0-9]*") for link in links(process))
    mounted = (fields[3].lstrip("/") for fields in rows(PROC / "self/mountinfo") if "nsfs" in fields)
    return {name for name in (*held, *mounted) if NAMESPACE.fullmatch(name)}


def links(process: Path) -> Iterator[str]:
    """Yield the targets of a process's namespaces and descriptors."""
    for folder in ("ns", "fd"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            yield from map(target, (process / folder).iterdir())


def target(link: Path) -> str:
    """Return where the link leads; empty if it is gone, as the one is by which its folder was listed."""
    try:
        return str(link.readlink())
    except OSError:
        return ""


def mounts() -> list[str]:
    """Return every mount point."""
    return [fields[4] for fields in rows(PROC / "self/mountinfo")]


def interfaces() -> list[str]:
    """Return the network interfaces."""
    return [fields[0] for fields in rows(PROC / "net/dev")[1:]]


def rules() -> Iterator[str]:
    """Yield the packet filter's rules, by every tool that is installed."""
    for command in RULES:
        if shutil.which(command[0]):
            done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
            # A comment has the time, and the counters of a chain change.
            yield from (re.sub(r"\[\d+:\d+\]", "", line) for line in done.stdout.splitlines() if line[:1] != "#")


def units() -> list[Path]:
    """Return systemd's units of the lab, and the links that enable them."""
    return [path for folder in UNIT_FOLDERS for path in Path(folder).glob(f"**/{UNITS}")]


def files(folders: Sequence[Path]) -> Iterator[str]:
    """Yield every file in the folders, and every folder that has none; nothing of what is mounted below them."""
    for folder in folders:
        for path, names, found in os.walk(folder):
            yield from (f"{path}/{name}" for name in found)
            if not names and not found and Path(path) != folder:
                yield path
            names[:] = [name for name in names if not os.path.ismount(f"{path}/{name}")]


LOOKS: dict[str, Callable[[], object]] = {
    "process": processes, "socket": tcp, "unix socket": unix, "namespace": namespaces, "mount": mounts,
    "interface": interfaces, "rule": rules, "unit": units,
}  # fmt: skip
