"""The state folder: the store and the control socket of one server, and of no other.

It is locked while its server lives (flock on the folder itself). The kernel gives the lock back whichever way the
server ends, so neither a process number nor a file says that the folder is taken; and servers in sandboxes share /tmp
but not the numbers of processes. Workers close their copies of the lock (workers/fork.py).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

TEMPORARY_PREFIX = "lab-state-"


class StateFolder:
    """A folder that this server has locked. Used by main only."""

    def __init__(self, path: Path, lock: int, *, temporary: bool = False) -> None:
        """`lock` is a descriptor of the folder that holds the lock; a `temporary` folder goes when it is closed."""
        self.path = path
        self._lock = lock
        self._temporary = temporary

    def close(self) -> None:
        """Give the lock back, and the folder if it is temporary."""
        if self._temporary:
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def open_folder(path: Path) -> StateFolder:
    """Make and lock the folder. Raises OSError: EBUSY if another server has it, EACCES if we may not write there."""
    path.mkdir(parents=True, exist_ok=True)
    if not os.access(path, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    if not _try_lock(lock):
        os.close(lock)
        raise OSError(errno.EBUSY, "another server uses it")
    return StateFolder(path, lock)


def make_temporary() -> StateFolder:
    """Make and lock a folder of our own, and remove those of servers that were killed."""
    remove_left_behind(Path(tempfile.gettempdir()))
    while True:
        path = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX))
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if path.exists():  # else it was found unlocked, and removed, a moment ago
                return StateFolder(path, lock, temporary=True)
            os.close(lock)


def remove_left_behind(parent: Path) -> None:
    """Remove the temporary state folders of servers that were killed: they left the folder, but not its lock."""
    for path in parent.glob(f"{TEMPORARY_PREFIX}*"):
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:  # another user's, or gone
            continue
        if _try_lock(lock):
            shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:  # its server lives
        return False
    return True
