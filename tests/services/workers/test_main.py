"""Workers that do not begin to serve, and signals to main."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from support.servers import keep_busy, read_response, wait_until


def test_worker_that_does_not_begin_to_serve_is_ended_and_replaced(serve_with, tmp_path) -> None:
    # The first worker hangs before it serves; its successor, which finds the file, does not.
    hung = tmp_path / "hung"
    hang_once = (
        "import time\n"
        "from pathlib import Path\n"
        "from services.workers import main as workers, process\n"
        "workers.START_SECONDS = 3\n"
        "begin = process.ProcessWorker._begin\n"
        "def hang(self):\n"
        "    begin(self)\n"
        f"    if not Path({str(hung)!r}).exists():\n"
        f"        Path({str(hung)!r}).touch()\n"
        "        time.sleep(60)\n"
        "process.ProcessWorker._begin = hang\n"
    )
    server = serve_with(hang_once, "nginx", "--workers", "2")
    wait_until(lambda: [w["state"] for w in server.state()["workers"]] == ["idle", "idle"], what="two that serve")
    log = server.log.read_text()
    assert "worker 0 does not serve after 3 s" in log
    assert "worker 0 died" in log
    assert server.metric("lab_worker_restarts_total") == 1


def test_worker_that_ends_at_once_is_said_and_replaced(serve_with, tmp_path) -> None:
    ended = tmp_path / "ended"
    end_once = (
        "import os\n"
        "from pathlib import Path\n"
        "from services.workers import process\n"
        "begin = process.ProcessWorker._begin\n"
        "def end(self):\n"
        "    begin(self)\n"
        f"    if not Path({str(ended)!r}).exists():\n"
        f"        Path({str(ended)!r}).touch()\n"
        "        os._exit(7)\n"
        "process.ProcessWorker._begin = end\n"
    )
    server = serve_with(end_once, "memcached", "--worker-kind", "process", "--workers", "1")
    wait_until(lambda: server.state()["workers"][0]["state"] == "idle", what="a successor")
    assert "exit code 7" in server.log.read_text()


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    parent = tmp_path / "tmp"
    parent.mkdir()
    monkeypatch.setenv("TMPDIR", str(parent))
    return parent


@pytest.mark.parametrize("hang_ups", [1, 2])
@pytest.mark.parametrize(("model", "kind"), [("nginx", "process"), ("ramcloud", "thread")])
def test_hang_up_drains_and_leaves_nothing_behind(serve, temporary, model, kind, hang_ups) -> None:
    server = serve(model, "--worker-kind", kind, "--workers", "1")
    assert list(temporary.iterdir())
    with server.connect() as client:
        keep_busy(server, client, seconds=1)
        server.signal(signal.SIGHUP)
        wait_until(lambda: has_heard(server), what="a handled signal")
        for _ in range(hang_ups - 1):
            server.signal(signal.SIGHUP)  # a closed terminal's kernel and its shell both say it
        assert read_response(client).startswith(b"HTTP/1.1 200")
    assert server.process.wait(10) == 0
    assert list(temporary.iterdir()) == []


def has_heard(server) -> bool:
    status = Path(f"/proc/{server.pid}/status").read_text()
    pending = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("SigPnd", "ShdPnd"))]
    return not any(mask >> (signal.SIGHUP - 1) & 1 for mask in pending)


def test_every_process_of_the_group_may_hear_the_hang_up(serve, temporary) -> None:
    server = serve("nginx", "--workers", "2", start_new_session=True)
    with server.connect() as client:
        keep_busy(server, client)
        for pid in (*server.descendants(), server.pid):
            signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGHUP)
        assert read_response(client).startswith(b"HTTP/1.1 200")
    assert server.process.wait(10) == 0
    assert "died" not in server.log.read_text()


def test_hang_up_is_ignored_under_nohup(serve) -> None:
    server = serve("nginx", "--workers", "1", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    server.signal(signal.SIGHUP)
    assert server.get("/").status_code == 200
    assert server.process.poll() is None
