"""Each kind of thing that a killed command may leave behind is seen."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

from reliability import machine


def test_process_is_seen_and_is_gone_when_it_has_ended() -> None:
    with subprocess.Popen(["sleep", "611"]) as process:
        assert "sleep 611" in machine.processes()
        process.kill()
    assert "sleep 611" not in machine.processes()


def test_zombie_is_seen_by_its_name() -> None:
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    try:
        assert "[true]" in machine.processes()
    finally:
        process.wait()


def test_listening_sockets_are_seen(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        assert any(line.endswith(f":{tcp.getsockname()[1]:04X}") for line in machine.tcp())
        unix.bind("tried.sock")
        assert "tried.sock" in machine.unix()


def test_namespaces_are_seen() -> None:
    assert str(Path("/proc/self/ns/net").readlink()) in machine.namespaces()
    with Path("/proc/self/ns/uts").open() as held:
        assert machine.target(Path(f"/proc/self/fd/{held.fileno()}")) in machine.namespaces()


def test_file_is_left_and_nothing_else(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(machine, "LOOKS", {})
    before = machine.census([tmp_path])
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    assert machine.left(before, [tmp_path], 0.1) == [f"file {tmp_path}/folder/file"]
