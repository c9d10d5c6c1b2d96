"""A state folder of a test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.stack import parts


@pytest.fixture
def state_dir(monkeypatch):
    """Move the state folder, else a developer's own stack would be meant."""

    def move(path: Path) -> Path:
        supervisor = path / "supervisor"
        moved = {
            "STATE_DIR": path,
            "SUPERVISOR_DIR": supervisor,
            "PIDFILE": supervisor / "supervisord.pid",
            "SUPERVISOR_CONFIGURATION": supervisor / "supervisord.conf",
            "SUPERVISOR_SOCKET": supervisor / "supervisor.sock",
            "DECLARED": path / "declared.json",
            "LOG_DIR": path / "logs",
        }
        for name, value in moved.items():
            monkeypatch.setattr(parts, name, value)
        return path

    return move
