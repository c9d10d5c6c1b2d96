"""A load that is started in Locust's own page is kept like any other."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress

import httpx
from support.servers import wait_until

from lab import results
from lab.peers.process import free_port
from lab.settings import CHECKOUT


def test_load_of_locusts_page_is_kept(model, tmp_path):
    server = model("nodejs")
    port = free_port()
    command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--class-picker"]
    environment = {**os.environ, "LAB_STATE_DIR": str(tmp_path / "state")}
    stored = tmp_path / "state" / "results"
    with (
        (tmp_path / "locust.log").open("wb") as log,
        subprocess.Popen(
            [*command, "--web-port", str(port)], cwd=CHECKOUT, env=environment, stdout=log, stderr=log
        ) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as page,
    ):
        try:
            wait_until(lambda: answers(page), 20, "Locust's page")
            form = {"user_count": 3, "spawn_rate": 10, "host": "", "model": "nodejs", "user_classes": ["KeepAliveUser"]}
            assert page.post("/swarm", data=form).json()["success"]
            wait_until(lambda: server.metric("lab_requests_total") > 1000, 20, "requests")
            metrics = page.get("/metrics").text
            page.post("/stop").raise_for_status()
            wait_until(lambda: list(stored.glob("*/report.html")), 30, "the run's page")
        finally:
            process.terminate()
    (run,) = results.runs(stored)
    (repeat,) = run.document["repeats"]
    assert run.document["options"]["users"] == 3
    assert run.document["command"].startswith("Locust's page: KeepAliveUser")
    assert repeat["requests"] > 900
    assert repeat["failures"] == 0
    assert repeat["server"]["requests"] > 0
    assert '-page",' in metrics


def answers(page):
    with suppress(httpx.HTTPError):
        return page.get("/metrics").is_success
    return False
