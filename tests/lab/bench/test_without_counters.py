"""A server without counters: statements that are left out, and a real one that serves and counts nothing."""

from __future__ import annotations

import pytest
from support import plain_http

from lab.bench import without_counters
from lab.peers import model

SOURCE = """
class Loop:
    def __init__(self):
        self.number = self.since = 0
        self.other = 0
    def request(self):
        self.number += 1
        self.other += 1
        if self.since:
            self.other += 10
        elif self.other:
            self.number += 10
        if self.other:
            self.publish()
        return self.other
    def publish(self):
        self.other += 100
"""


def test_statements_about_counters_are_left_out_and_others_stay():
    space = {}
    exec(without_counters.without(SOURCE, "loop.py", frozenset({"number", "since", "publish"})), space)
    loop = space["Loop"]()
    assert (loop.request(), loop.number, loop.other) == (1, 0, 1)


def test_counter_that_is_not_there_is_an_error():
    with pytest.raises(ImportError, match=r"loop.py does not count by absent"):
        without_counters.without(SOURCE, "loop.py", frozenset({"number", "absent"}))


@pytest.mark.parametrize("name", ["nodejs", "nginx", "ramcloud"])
@pytest.mark.parametrize(("module", "counted"), [("services", 5), ("lab.bench.without_counters", 0)])
def test_server_serves_and_counts_nothing(name, module, counted):
    options = () if name == "nodejs" else ("--workers", "1")
    with model.start(name, *options, module=module) as peer:
        with plain_http.Client(trust_env=False) as client:
            assert {client.get(peer.url).status_code for _ in range(5)} == {200}
        metrics = plain_http.get(f"{peer.admin_url}/metrics", trust_env=False).text
    lines = [line for line in metrics.splitlines() if "requests_total{" in line and 'code="200"' in line]
    assert sum(float(line.split()[-1]) for line in lines) == counted
