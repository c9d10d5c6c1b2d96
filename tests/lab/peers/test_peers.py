"""Every installed peer starts, answers and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

import psutil
import pytest
from support import plain_http

from lab.measure import processes
from lab.peers import HTTP_PEERS, PEERS, memcached, process


def gone(pids):
    """Waits until none of `pids` runs; one that its parent has not collected yet runs no more."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if not any(runs(pid) for pid in pids):
            return True
        time.sleep(0.02)
    return False


def runs(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def installed(name):
    if not PEERS[name].available():
        pytest.skip(f"{name} is not installed ({PEERS[name].HOW_TO_GET})")
    return PEERS[name]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("name", HTTP_PEERS)
def test_http_peer_answers_and_is_gone_afterwards(name, workers, tmp_path, monkeypatch):
    odd = tmp_path / "my \"lab\" (1) [2] 'x' & $HOME 100% #6 ;7 ü"
    odd.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(odd))
    kind = installed(name)
    with kind.start(workers=workers) as peer:
        pids = processes.tree(peer.pid)
        response = plain_http.get(peer.url, trust_env=False)
        assert response.status_code == 200
        assert "hello" in response.text
    assert gone(pids)
    assert not process.accepts(peer.port)
    assert not peer.folder.exists()


def test_memcached_answers_and_is_gone_afterwards():
    kind = installed(memcached.NAME)
    with kind.start(workers=2) as peer, socket.create_connection((peer.host, peer.port), timeout=5) as client:
        client.sendall(b"version\r\n")
        assert client.recv(100) == f"VERSION {kind.available()}\r\n".encode()
    assert gone([peer.pid])


@pytest.mark.parametrize("name", PEERS)
def test_version_is_a_number(name):
    assert re.match(r"v?\d+\.\d+", installed(name).available())


def test_peer_stays_on_its_cpus():
    kind = installed("real-nginx")
    cpu = min(os.sched_getaffinity(0))
    with kind.start(workers=2, cpus={cpu}) as peer:
        assert {frozenset(os.sched_getaffinity(pid)) for pid in processes.tree(peer.pid)} == {frozenset({cpu})}


def plan(code):
    return process.Plan("scripted", lambda folder, port: [sys.executable, "-c", code, str(port)])


LISTEN = "import socket, sys, time; listener = socket.create_server(('127.0.0.1', int(sys.argv[1])));"


def test_server_that_ends_at_once_is_reported_with_its_last_words():
    broken = plan("import sys; print('no configuration', file=sys.stderr); sys.exit(3)")
    said = r"ended with 3.*: no configuration"
    with pytest.raises(process.PeerError, match=said), process.running(broken, 0, None):
        pytest.fail("it started")


def test_missing_command_is_reported():
    missing = process.Plan("missing", lambda folder, port: ["/nowhere"])
    with pytest.raises(process.PeerError, match="cannot start /nowhere"), process.running(missing, 0, None):
        pytest.fail("it started")


def test_server_that_ignores_sigterm_is_ended_with_its_children(monkeypatch):
    monkeypatch.setattr(process, "STOP_SECONDS", 0.2)
    stubborn = "import os, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.fork(); time.sleep(60)"
    with process.running(plan(LISTEN + stubborn), 0, None) as peer:
        deadline = time.monotonic() + 5
        while len(pids := processes.tree(peer.pid)) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(pids) == 2
    assert gone(pids)


def test_an_exception_inside_ends_the_server_too():
    with pytest.raises(KeyError), process.running(plan(LISTEN + "time.sleep(60)"), 0, None) as peer:
        raise KeyError
    assert gone([peer.pid])


def test_server_ends_when_its_starter_is_killed(tmp_path):
    code = f"""
import sys, time
from lab.peers import process
command = [sys.executable, "-c", {LISTEN + "time.sleep(60)"!r}]
with process.running(process.Plan("scripted", lambda folder, port: [*command, str(port)]), 0, None) as peer:
    print(peer.pid, flush=True)
    time.sleep(60)
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}  # killed, it cannot remove its folder
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment) as starter:
        pid = int(starter.stdout.readline())
        starter.send_signal(signal.SIGKILL)
    assert gone([pid])
