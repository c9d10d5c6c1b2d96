"""Runs that are started in Locust's own page are kept, too: by a process of the lab beside Locust.

It watches the server meanwhile, so it is there from the beginning. A host of the `loadgen` group has no more of the lab
than Locust needs; runs are not kept there.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import subprocess
import sys
from typing import Any

KEEPER = "lab.report.locust_page"


class Keeping:
    """One process a run. Its input is a line for the beginning and one for the end."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self, about: dict[str, Any]) -> None:
        """Start the process; one that is left of an interrupted run ends, since its input does."""
        self._forget()
        try:
            there = importlib.util.find_spec(KEEPER) is not None
        except ModuleNotFoundError:
            there = False
        if there:
            self._process = subprocess.Popen([sys.executable, "-m", KEEPER], stdin=subprocess.PIPE)
            self._tell(about)

    def end(self, result: dict[str, Any]) -> None:
        """Hand over what was measured. It goes on by itself: plots take seconds."""
        if self._process is not None:
            self._tell(result)
            self._close()

    def _tell(self, document: dict[str, Any]) -> None:
        if self._process is not None and self._process.stdin:
            with contextlib.suppress(OSError):  # it has died; its words are in Locust's log
                self._process.stdin.write(json.dumps(document).encode() + b"\n")
                self._process.stdin.flush()

    def _close(self) -> None:
        if self._process is not None and self._process.stdin:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def _forget(self) -> None:
        if self._process is not None:
            self._close()
            self._process.poll()
