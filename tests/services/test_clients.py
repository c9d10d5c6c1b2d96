"""Clients that were not written here get what they expect: curl, ab and wrk."""

from __future__ import annotations

import re
import subprocess

import pytest
from support.tools import require_tool

MODELS = ["nodejs", "memcached", "ramcloud", "nginx", "reuseport"]


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.mark.parametrize("model", MODELS)
def test_curl_uploads_downloads_and_keeps_its_connection(serve, tmp_path, model):
    curl = require_tool("curl")
    server = serve(model, "--workers", "2")
    large = tmp_path / "large"
    large.write_bytes(bytes(range(256)) * 4000)
    assert (
        output(curl, "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-T", str(large), server.url + "/kv/large")
        == "201"
    )
    fetched = tmp_path / "fetched"
    urls = [server.url + "/kv/large"] * 3
    shown = output(curl, "-sS", *(part for url in urls for part in ("-o", str(fetched), url)), "-w", "%{num_connects} ")
    assert shown.split() == ["1", "0", "0"]  # one connection for all three
    assert fetched.read_bytes() == large.read_bytes()
    assert "HTTP/1.0" in output(curl, "-sS", "-v", "-0", "-o", "/dev/null", server.url, "--stderr", "-")


@pytest.mark.parametrize("model", MODELS)
def test_ab_completes_every_request(serve, model):
    ab = require_tool("ab")
    server = serve(model, "--workers", "2")
    for keep_alive in ((), ("-k",)):
        text = output(ab, "-q", *keep_alive, "-n", "500", "-c", "10", server.url + "/")
        assert re.search(r"Complete requests: +500\n", text)
        assert re.search(r"Failed requests: +0\n", text)


@pytest.mark.parametrize("model", MODELS)
def test_wrk_sees_no_errors(serve, model):
    wrk = require_tool("wrk")
    server = serve(model, "--workers", "2")
    for header in ("X-Nothing: 1", "Connection: close"):
        text = output(wrk, "-t1", "-c20", "-d1s", "--timeout", "10s", "-H", header, server.url + "/")
        assert int(re.search(r"(\d+) requests in", text)[1]) > 0
        assert "Socket errors" not in text
        assert "Non-2xx" not in text
