"""A server under the supervisor's options of the local stack: killed, it serves again within seconds."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support import plain_http
from support.servers import free_ports, wait_until

from lab.stack import local

ROOT = Path(__file__).parents[2]
AGAIN_SECONDS = 3.0
"""For supervisord to see the end (it looks once a second), and for a server to start."""


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator:
    """`supervise("nginx", ...)`: supervisord with one server; returns the URLs of the service and of its admin port."""
    pytest.importorskip("supervisor")
    started: list[subprocess.Popen[bytes]] = []

    def start(model: str, *options: str) -> tuple[str, str]:
        port, admin = free_ports()
        words = [sys.executable, "-m", "services", model, "--port", str(port), "--admin-port", str(admin)]
        words += ["--state-dir", str(tmp_path / "state"), *options]
        restarting = re.findall(r"^(?:autorestart|startsecs|killasgroup)=\w+$", local.PROGRAM, re.MULTILINE)
        assert len(restarting) == 3
        configuration = tmp_path / "supervisord.conf"
        configuration.write_text(
            f"[supervisord]\nnodaemon=true\nuser={os.getuid()}\nlogfile={tmp_path}/log\npidfile={tmp_path}/pid\n"
            f"childlogdir={tmp_path}\n[program:server]\ncommand={' '.join(words)}\ndirectory={ROOT}\n"
            + "\n".join(restarting)
        )
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "supervisor.supervisord", "-c", configuration], stdout=subprocess.DEVNULL
            )
        )
        urls = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}"
        wait_until(lambda: serves(urls[0]), 20, "a server")
        return urls

    yield start
    for process in started:
        process.terminate()
        process.wait(20)


def serves(url: str) -> bool:
    try:
        return plain_http.get(url, timeout=1).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.parametrize(
    ("model", "kind", "number"),
    [("memcached", "thread", signal.SIGKILL), ("ramcloud", "thread", signal.SIGSEGV), ("nginx", "process", signal.SIGKILL)],
)  # fmt: skip
def test_killed_server_serves_again(supervise, model, kind, number) -> None:
    service, admin = supervise(model, "--worker-kind", kind)
    before = plain_http.get(f"{admin}/state").json()["pid"]
    time.sleep(1.1)  # startsecs: supervisord takes an end before that for a failure to start, and hesitates
    os.kill(before, number)
    wait_until(lambda: not Path(f"/proc/{before}").exists(), what="its end")
    wait_until(lambda: serves(service), AGAIN_SECONDS, "a server again")
    wait_until(lambda: serves(f"{admin}/healthz"), AGAIN_SECONDS, "its admin port")
    assert plain_http.get(f"{admin}/state").json()["pid"] != before
