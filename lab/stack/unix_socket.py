"""Connecting to Unix sockets, however long their paths are."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from lab import machines


def connect(path: Path, seconds: float) -> socket.socket:
    """Return a connection to the socket at `path`, whose calls take `seconds` at most. Raises OSError."""
    if not machines.LINUX:
        raise FileNotFoundError(path)  # all that has such a socket runs in containers then, and it is in there
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(seconds)
    try:
        # By the folder's descriptor: a path may be longer than the 107 bytes of an address.
        connection.connect(f"/proc/self/fd/{descriptor}/{path.name}")
    except OSError:
        connection.close()
        raise
    finally:
        os.close(descriptor)
    return connection
