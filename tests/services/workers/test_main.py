"""Workers that do not begin to serve."""

from __future__ import annotations

from support.servers import wait_until


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
