"""Real systems that models are compared with: each starts in a folder of its own, serves, and leaves nothing behind."""

import time

import psutil
import pytest

from lab.fidelity import reals
from lab.fidelity.running import started
from lab.peers import process

SYSTEMS = [
    reals.real_apache("prefork", 2),
    reals.real_apache("worker", 2),
    reals.real_apache("event", 2),
    reals.real_gunicorn("sync", 2),
    reals.real_node(2),
    reals.real_postgres(),
    reals.real_redis(),
]


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.label)
def test_system_serves_and_is_gone_afterwards(system):
    kind = reals.KINDS[system.name]
    if not kind.available():
        pytest.skip(f"{system.name} is not installed ({kind.HOW_TO_GET})")
    with started(system) as running:
        connection = running.connect()
        running.ask(connection)
        pids, folder, port = running.pids(), running.peer.folder, running.peer.port
        assert folder.is_dir()
    deadline = time.monotonic() + 5
    while any(is_running(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(is_running(pid) for pid in pids)
    assert not folder.exists()
    assert not process.accepts(port)


def is_running(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
