"""Where the local place keeps things."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.stack import parts


@pytest.fixture
def state_dir(monkeypatch):
    """Move the state folder."""

    def move(path: Path) -> Path:
        monkeypatch.setattr(parts, "STATE_DIR", path)
        monkeypatch.setattr(parts, "SUPERVISOR_DIR", path / "supervisor")
        return parts.socket_path()

    return move


def test_socket_is_in_the_state_folder_where_it_fits(state_dir):
    assert state_dir(Path("/checkout/.lab")) == Path("/checkout/.lab/supervisor/supervisor.sock")


def test_socket_of_a_deep_state_folder_fits_elsewhere(state_dir, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    path = state_dir(Path("/") / ("d" * 120))
    assert path.parent == Path("/run/user/1000")
    assert len(str(path)) + parts.TEMPORARY_SUFFIX_BYTES <= parts.SOCKET_PATH_BYTES


def test_sockets_of_two_deep_state_folders_differ(state_dir):
    assert state_dir(Path("/") / ("d" * 120)) != state_dir(Path("/") / ("e" * 120))


def test_ports_of_all_parts_are_there_once():
    numbers = [port.variable for port in parts.ports()]
    assert len(numbers) == len(set(numbers)) == 13
