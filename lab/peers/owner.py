"""Which worker owns a connection, seen from outside, whatever server it is.

The client knows its own port. /proc/net/tcp has the server's end of that connection, with the inode of its socket. From
there on there are two ways:

    epoll        every epoll descriptor lists in its fdinfo the inodes that it watches (proc(5)): the worker is the loop
                 that watches the connection. It tells threads of one process apart, too: each has an epoll of its own
    descriptor   only one process has the socket among its descriptors: for servers whose workers block in `read`

Rejected: asking the server. Most real ones do not say, and a header says who responded, not who owns the connection.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

EPOLL, DESCRIPTOR = "epoll", "descriptor"
WATCHED = re.compile(r"^tfd:.*\bino:([0-9a-f]+)", re.MULTILINE)
ESTABLISHED, CLOSE_WAIT = "01", "08"
EPOLL_WAITS = frozenset({"22", "232", "281", "441"})
"""Numbers of epoll_wait, epoll_pwait and epoll_pwait2, x86-64's and arm64's."""


class Owner(NamedTuple):
    """A worker: a process, and in it the epoll descriptor of its loop; 0 where the process is all that is known."""

    pid: int
    epoll: int = 0


def inodes(port: int) -> dict[int, int]:
    """Return client's port → inode of the server's end, of the connections to `port` that have been accepted."""
    found = {}
    for line in Path("/proc/thread-self/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        _, local, remote, state, *_, inode = line.split()[:10]
        if state in {ESTABLISHED, CLOSE_WAIT} and int(local.partition(":")[2], 16) == port and inode != "0":
            found[int(remote.partition(":")[2], 16)] = int(inode)
    return found


def unread_bytes(port: int, client: int) -> int:
    """Return what the server's end of a connection holds that nobody has read; 0 where there is no such connection."""
    for line in Path("/proc/thread-self/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        _, local, remote, _, queues, *_ = line.split()[:10]
        if int(local.partition(":")[2], 16) == port and int(remote.partition(":")[2], 16) == client:
            return int(queues.partition(":")[2], 16)
    return 0


class Owners:
    """Owners of a server's connections. It keeps in mind which descriptors are epolls, until `forget`."""

    def __init__(self, by: str = EPOLL) -> None:
        self._by = by
        self._epolls: dict[int, list[int]] = {}

    def forget(self) -> None:
        """Look anew: workers have come or gone."""
        self._epolls.clear()

    def find(self, port: int, pids: Iterable[int]) -> dict[int, Owner]:
        """Return client's port → owner, of the connections to `port` that exactly one worker has."""
        found = self._watched(pids) if self._by == EPOLL else held(pids)
        alone = {inode: owners.copy().pop() for inode, owners in found.items() if len(owners) == 1}
        return {client: alone[inode] for client, inode in inodes(port).items() if inode in alone}

    def _watched(self, pids: Iterable[int]) -> dict[int, set[Owner]]:
        found: dict[int, set[Owner]] = {}
        for pid in pids:
            # Tokio keeps a duplicate of its epoll's descriptor: two numbers, one loop, and the same lines.
            loops = {info: descriptor for descriptor in self._of(pid)[::-1] if (info := fdinfo(pid, descriptor))}
            for info, descriptor in loops.items():
                for inode in watched_in(info):
                    found.setdefault(inode, set()).add(Owner(pid, descriptor))
        return found

    def _of(self, pid: int) -> list[int]:
        if not self._epolls.get(pid):
            self._epolls[pid] = epolls(pid)
        return self._epolls[pid]


def held(pids: Iterable[int]) -> dict[int, set[Owner]]:
    """Return inode → the processes that have it among their descriptors."""
    found: dict[int, set[Owner]] = {}
    for pid in pids:
        for _, target in descriptors(pid):
            if target.startswith("socket:["):
                found.setdefault(int(target[8:-1]), set()).add(Owner(pid))
    return found


def descriptors(pid: int) -> Iterator[tuple[int, str]]:
    """Yield number and target of a process's descriptors; none of one that is gone."""
    with contextlib.suppress(OSError):
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                yield int(file.name), str(file.readlink())


def epolls(pid: int) -> list[int]:
    """Return a process's epoll descriptors, in order."""
    return sorted(number for number, target in descriptors(pid) if target == "anon_inode:[eventpoll]")


def watched(pid: int, epoll: int) -> list[int]:
    """Return the inodes that an epoll descriptor watches; none where it is gone."""
    return watched_in(fdinfo(pid, epoll))


def watched_in(info: str) -> list[int]:
    """Return the inodes in the fdinfo of an epoll descriptor."""
    return [int(inode, 16) for inode in WATCHED.findall(info)]


def fdinfo(pid: int, descriptor: int) -> str:
    """Return what the kernel says of a descriptor; nothing where it is gone."""
    try:
        return Path(f"/proc/{pid}/fdinfo/{descriptor}").read_text(encoding="ascii")
    except OSError:
        return ""


def thread_of(owner: Owner) -> int | None:
    """Return the thread that waits on the owner's epoll now; None where none does."""
    for task in Path(f"/proc/{owner.pid}/task").iterdir():
        with contextlib.suppress(OSError):  # ended meanwhile
            number, *arguments = (task / "syscall").read_text(encoding="ascii").split()
            if number in EPOLL_WAITS and int(arguments[0], 16) == owner.epoll:
                return int(task.name)
    return None
