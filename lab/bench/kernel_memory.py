"""Kernel memory of TCP connections, by the slab allocator's counters.

An idle connection costs a server more in the kernel than in its own memory: a socket (`TCP`), its inode
(`sock_inode_cache`), an open file (`filp`) with its name (`dentry`), and its place in the epoll set (`eventpoll_epi`,
`eventpoll_pwq`). Its send and receive buffers are empty, and take nothing.

/proc/slabinfo counts the objects in use of each kind, and says how large one is; the difference between two readings,
times the size, divided by the number of connections, is what each took. Client and server share one kernel here: each
has one of the first four, so half of the difference is the server's. Its end alone has the two of epoll, of which a
difference would tell nothing: the kernel keeps objects of one size together, and these with each client's local port
(`tcp_bind_bucket`). There is one of each for a connection, so their size is added, out of /sys/kernel/slab. The table
of descriptors, 8 bytes each, is left out. Only root may read either; without, there is no figure.
"""

from __future__ import annotations

from pathlib import Path

SLABINFO = Path("/proc/slabinfo")
SLABS = Path("/sys/kernel/slab")
OF_BOTH_ENDS = ("TCP", "sock_inode_cache", "filp", "dentry")
OF_THE_SERVER = ("eventpoll_epi", "eventpoll_pwq")


def used_bytes(text: str) -> dict[str, int]:
    """Bytes in use of each kind of object that both ends have, out of the text of slabinfo."""
    used = {}
    for line in text.splitlines():
        name, *numbers = line.split()
        if name in OF_BOTH_ENDS:
            active, _, size = map(int, numbers[:3])
            used[name] = active * size
    return used


def read() -> dict[str, int] | None:
    """Bytes in use now; None where slabinfo is not there, or only root may read it."""
    try:
        return used_bytes(SLABINFO.read_text(encoding="ascii"))
    except OSError:
        return None


def server_bytes(before: dict[str, int], after: dict[str, int], connections: int) -> dict[str, float]:
    """Bytes a connection that the server's end took between two readings, of each kind of object."""
    halves = {name: (after[name] - before[name]) / connections / 2 for name in before.keys() & after.keys()}
    return {**halves, **{name: size for name in OF_THE_SERVER if (size := _object_bytes(name))}}


def _object_bytes(name: str) -> int:
    """Bytes that an object takes in its slab; 0 where the kernel does not say."""
    try:
        return int((SLABS / name / "slab_size").read_text(encoding="ascii"))
    except OSError:
        return 0
