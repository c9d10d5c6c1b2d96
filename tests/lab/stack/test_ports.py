"""Finding who holds a port of the stack."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from lab import settings
from lab.settings import Port
from lab.stack.ports import Conflict, conflicts
from lab.state_folder import user_name


@pytest.fixture
def taken():
    """A port that this process listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_conflict_names_port_variable_and_holder(taken, monkeypatch):
    monkeypatch.setenv("LAB_NGINX_PORT", str(taken))
    (conflict,) = conflicts([settings.SERVICE_PORTS["nginx"]])
    for words in (f"port {taken}", "nginx", "LAB_NGINX_PORT", f"pid {os.getpid()}"):
        assert words in str(conflict)


def test_conflict_is_none_for_a_free_port(taken, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as other:
        free = other.getsockname()[1]
    monkeypatch.setenv("LAB_NGINX_PORT", str(free))
    assert conflicts([settings.SERVICE_PORTS["nginx"]]) == []


def test_conflict_of_two_parts_on_one_port_names_both(monkeypatch):
    monkeypatch.setenv("LAB_ONE_PORT", "19999")
    monkeypatch.setenv("LAB_TWO_PORT", "19999")
    found = [str(conflict) for conflict in conflicts([Port("one", 1), Port("two", 2)])]
    assert len(found) == 1
    assert "LAB_ONE_PORT" in found[0]
    assert "LAB_TWO_PORT" in found[0]


SERVER = "import socket, sys, time; held = [socket.create_server(('127.0.0.1', 0)) for _ in range(3)]; "
SERVER += "print(*(one.getsockname()[1] for one in held), flush=True); time.sleep(60)"


@pytest.fixture
def holder(monkeypatch):
    """Start a process that listens on three ports of the settings, with these variables."""
    started = []

    def start(**variables):
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True, env={**os.environ, **variables}
        )
        started.append(process)
        for model, number in zip(("nodejs", "memcached", "nginx"), process.stdout.readline().split(), strict=True):
            monkeypatch.setenv(settings.SERVICE_PORTS[model].variable, number)
        return [settings.SERVICE_PORTS[model] for model in ("nodejs", "memcached", "nginx")]

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_ports_of_another_lab_are_one_conflict_that_says_how_to_stop_it(holder):
    (conflict,) = conflicts(holder(LAB_STACK="/my lab/.lab"))
    for words in ("nodejs, memcached, nginx are taken by another lab", "LAB_STATE_DIR='/my lab/.lab' lab down"):
        assert words in str(conflict)


def test_ports_of_one_program_are_one_conflict(holder):
    (conflict,) = conflicts(holder())
    assert conflict.subject.startswith("ports ")
    assert "are taken by python" in conflict.detail
    assert "LAB_NODEJS_PORT=PORT and so on" in conflict.remedy


def test_conflict_of_a_whole_lab_is_short():
    line = str(Conflict(tuple(settings.PORTS), "is taken by another lab"))
    assert line.startswith(
        "14 ports from 3000 to 9105 of nodejs and 13 others are taken by another lab: move them with"
    )


def test_ports_of_processes_that_cannot_be_seen_are_one_conflict_of_their_user(holder, monkeypatch):
    ports = holder()
    monkeypatch.setattr("lab.stack.ports.listening", dict)
    monkeypatch.setattr("lab.stack.ports.os.geteuid", lambda: 12345)
    (conflict,) = conflicts(ports)
    assert f"are taken by a process of {user_name(os.getuid())}" in conflict.detail


def test_port_that_others_listen_on_with_reuseport_is_taken(monkeypatch):
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        monkeypatch.setenv("LAB_NGINX_PORT", str(listener.getsockname()[1]))
        assert len(conflicts([settings.SERVICE_PORTS["nginx"]])) == 1


def test_port_variable_that_is_no_number_is_refused(monkeypatch):
    monkeypatch.setenv("LAB_NGINX_PORT", "http")
    with pytest.raises(settings.SettingError, match="LAB_NGINX_PORT"):
        conflicts([settings.SERVICE_PORTS["nginx"]])
