"""Reading wrk's output."""

from __future__ import annotations

import re

import pytest
from support.tools import require_tool

from lab.load import wrk

OUTPUT = """Running 1s test @ http://127.0.0.1:8004/
  1 threads and 50 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   466.90us  421.96us   8.85ms   92.10%
    Req/Sec   112.35k     5.12k  121.00k    80.00%
  Latency Distribution
     50%  390.00us
     75%  512.00us
     90%  749.00us
     99%    2.19ms
  123873 requests in 1.10s, 18.55MB read
Requests/sec: 112439.58
Transfer/sec:     16.84MB
"""


def test_figures():
    assert wrk.parse(OUTPUT) == wrk.WrkResult(123873, 112439.58, 0.39, 2.19, 0)


def test_errors_of_both_kinds_are_added():
    text = OUTPUT + "  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 5\n"
    assert wrk.parse(text).errors == 15


@pytest.mark.parametrize(("written", "expected"), [("1.50s", 1500.0), ("2.00m", 120_000.0)])
def test_units(written, expected):
    assert wrk.parse(OUTPUT.replace("2.19ms", written)).p99_ms == expected


def test_output_without_figures_is_an_error():
    with pytest.raises(wrk.WrkError, match="unable to connect"):
        wrk.parse("unable to connect to 127.0.0.1:1 Connection refused")


def test_missing_wrk_names_its_package(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(wrk.WrkError, match="apt-get install wrk"):
        wrk.require()


def test_version_is_a_number():
    require_tool("wrk")
    assert re.match(r"\d+\.\d+", wrk.version())
