"""Servers that refuse to run as root, started by root: in a user namespace where we are somebody else.

Outside it nothing changes: files and signals are ours as before, and no user has to be made.
"""

from __future__ import annotations

import os

SOMEBODY = "1000"


def as_somebody(*command: str) -> list[str]:
    """Return the command as it can be run by whoever we are."""
    if os.geteuid():
        return list(command)
    return ["unshare", "--user", f"--map-user={SOMEBODY}", f"--map-group={SOMEBODY}", *command]
