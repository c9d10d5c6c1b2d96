"""A real model at the ports where `lab load` looks for it, and a folder for results of the test's own."""

from __future__ import annotations

import contextlib
import signal

import pytest
from support.servers import end_server, start_server

from lab import results


@pytest.fixture
def kept(monkeypatch, tmp_path):
    """The folder of results."""
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


@pytest.fixture
def model(monkeypatch, tmp_path, kept):
    """Start a model where `lab load` looks for it."""
    started = []

    def start(name, *options):
        folder = tmp_path / name
        folder.mkdir()
        server = start_server(folder, name, *options)
        started.append(server)
        monkeypatch.setenv(f"LAB_{name.upper()}_PORT", str(server.port))
        monkeypatch.setenv(f"LAB_{name.upper()}_ADMIN_PORT", server.admin.rpartition(":")[2])
        return server

    yield start
    for server in started:
        with contextlib.suppress(ProcessLookupError):  # a test may have paused it
            server.process.send_signal(signal.SIGCONT)
        end_server(server)
