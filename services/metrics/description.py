"""Description of a model: all that the admin process needs to know and cannot read from the slots."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Description:
    """A model, its main process and its options.

    `options_file`, where given, is JSON that main writes anew when options are changed live.
    """

    model: str
    main_pid: int
    worker_kind: str
    port: int
    admin_host: str
    options: dict[str, Any]
    options_file: Path | None = None

    def current_options(self) -> dict[str, Any]:
        """Return the options in force now."""
        if self.options_file is None:
            return self.options
        try:
            options: dict[str, Any] = json.loads(self.options_file.read_text())
        except (OSError, ValueError):  # not written yet, or half
            return self.options
        return options
