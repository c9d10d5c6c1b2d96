"""Description of a model: all that the admin process needs to know and cannot read from the slots."""

from __future__ import annotations

import json
import mmap
from dataclasses import dataclass
from typing import Any

MAX_OPTIONS_BYTES = 1 << 16
"""Of all options as JSON; the longest are paths, of 4,096 bytes at the most."""


class SharedOptions:
    """Options in force, in memory that main and the admin process share: main writes, the admin process reads.

    No file, since a file needs a disk with room on it, and a disk that is full must not end a server. There are two
    places for the text, and a number says which of them holds. Main writes to the other one and then changes the
    number, which is one byte: so a reader finds the options before or those after, never half of each.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self._memory = mmap.mmap(-1, 1 + 2 * MAX_OPTIONS_BYTES)
        self.write(options)

    def write(self, options: dict[str, Any]) -> None:
        """Let these be in force. Called by main only."""
        text = json.dumps(options).encode()
        if len(text) >= MAX_OPTIONS_BYTES:
            raise ValueError(f"the options take {len(text)} bytes, more than {MAX_OPTIONS_BYTES}")
        other = 1 - self._memory[0]
        begin = 1 + other * MAX_OPTIONS_BYTES
        self._memory[begin : begin + len(text) + 1] = text + b"\0"
        self._memory[0] = other

    def read(self) -> dict[str, Any]:
        """Return the options in force."""
        begin = 1 + self._memory[0] * MAX_OPTIONS_BYTES
        text = self._memory[begin : self._memory.find(b"\0", begin)]
        options: dict[str, Any] = json.loads(text)
        return options


@dataclass(frozen=True)
class Description:
    """A model, its main process and its options.

    `in_force`, where given, has the options since they were last changed live.
    """

    model: str
    main_pid: int
    worker_kind: str
    port: int
    admin_host: str
    options: dict[str, Any]
    in_force: SharedOptions | None = None

    def current_options(self) -> dict[str, Any]:
        """Return the options in force now."""
        return self.options if self.in_force is None else self.in_force.read()
