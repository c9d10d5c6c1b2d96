"""The state folder as it is found: whose it is, whether there is room, and what to do where it cannot be used.

Any command may find it full, read-only or another user's. That is a line, which `lab.cli` asks for here in one place;
nothing else need handle it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
from pathlib import Path

from lab.settings import STATE_DIR

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
FORBIDDEN = frozenset({errno.EACCES, errno.EPERM})
FOLDERS = frozenset({
    "ansible", "console", "containers", "logs", "models", "prometheus", "results", "sandbox", "supervisor",
})  # fmt: skip
"""Folders that the lab makes in it; a disk's own `lost+found` is always root's."""
LEAST_BYTES = 4 << 20
"""Room that one run may take there, with its page."""
ELSEWHERE = "set LAB_STATE_DIR to a folder"


def refusal(state_dir: Path = STATE_DIR) -> str:
    """Return why this user cannot use the state folder, in one line; empty where nothing forbids it.

    The lab's folders in it are looked at, too: after a `sudo lab up` in one's own folder, the stack's are root's.
    """
    try:
        there = sorted(entry for entry in state_dir.iterdir() if entry.name in FOLDERS and entry.is_dir())
        closed = next((folder for folder in (state_dir, *there) if not usable(folder)), None)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return explain(error, state_dir)
    return belongs(closed) if closed else ""


def usable(folder: Path) -> bool:
    """Return whether this user may read and, unless nobody can, write there. Raises OSError."""
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return os.access(folder, os.R_OK | os.X_OK)
    return os.access(folder, os.R_OK | os.W_OK | os.X_OK)


def belongs(path: Path) -> str:
    """Return whose a path is that this user cannot use, and the two ways on."""
    owner = owner_of(path)
    if owner == os.geteuid():
        return f"{path} is closed to its own owner: chmod u+rwx it, or {ELSEWHERE} of yours"
    name = user_name(owner)
    sudo = "sudo" if owner == 0 else f"sudo -u {name}"
    return f"{path} belongs to {name}: use `{sudo}`, or {ELSEWHERE} of yours, for a lab of your own"


def owner_of(path: Path) -> int:
    """Return the user number of a path's owner, or of the nearest folder above it that can be seen."""
    for seen in (path, *path.parents):
        with contextlib.suppress(OSError):
            return seen.stat().st_uid
    return 0


def user_name(number: int) -> str:
    """Return the name of a user; one that has none is called by its number."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def require_room(folder: Path) -> None:
    """Raise OSError where the folder's disk is full or read-only: before a run, whose figures could not be kept."""
    disk = os.statvfs(next(seen for seen in (folder, *folder.parents) if seen.exists()))
    if disk.f_flag & os.ST_RDONLY:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(folder))
    # Some file systems say nothing of their size.
    if disk.f_blocks and (disk.f_bavail if os.geteuid() else disk.f_bfree) * disk.f_frsize < LEAST_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def is_full(folder: Path) -> bool:
    """Return whether the folder's disk takes no more."""
    try:
        require_room(folder)
    except OSError:
        return True
    return False


def explain(error: OSError, state_dir: Path = STATE_DIR) -> str:
    """Return what is wrong with a disk or the state folder, and what to do, in one line; empty for other errors.

    An error of a write has no path with it, so a disk that is full is told by the error's number.
    """
    path = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else None
    ours = (
        is_full(state_dir) if path is None else Path(os.path.realpath(path)).is_relative_to(os.path.realpath(state_dir))
    )
    if error.errno in (*NO_ROOM, errno.EROFS):
        where = f"{path or state_dir}: " if path or ours else ""
        remedy = "" if error.errno == errno.EROFS else "make room there, or "
        return f"{where}{error.strerror}; {remedy}{f'{ELSEWHERE} on another disk' if ours else 'write elsewhere'}"
    if path is None:
        # tempfile's, where no folder that it knows can be written to.
        return f"{error.strerror}; set TMPDIR to one that can be" if "temporary directory" in str(error) else ""
    if error.errno in FORBIDDEN:
        return belongs(path) if ours else f"{path}: {error.strerror}"
    return f"{path}: {error.strerror}; {ELSEWHERE} of yours" if ours else ""
