"""Finding who holds a port of the stack."""

from __future__ import annotations

import os
import socket

import pytest

from lab import settings
from lab.settings import Port
from lab.stack.ports import conflicts


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
