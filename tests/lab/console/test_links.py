"""Where the tools beside the page are, in each place."""

from __future__ import annotations

import pytest

from lab import settings
from lab.console import links

PROMETHEUS = next(link for link in links.LINKS if link.name == "Prometheus")


@pytest.mark.parametrize(
    ("variables", "found_at", "url"),
    [
        ({}, ("127.0.0.1", 9090), ""),
        ({"LAB_PROMETHEUS_PORT": "9999"}, ("127.0.0.1", 9999), ""),
        ({"LAB_PROMETHEUS_PORT": "9999", "LAB_PROMETHEUS_HOST": "prometheus"}, ("prometheus", 9090), ""),
        ({"LAB_PROMETHEUS_URL": "http://192.0.2.21:9091"}, ("192.0.2.21", 9091), "http://192.0.2.21:9091"),
    ],
    ids=["here", "at another port", "in containers", "on hosts"],
)
def test_tool_is_looked_for_where_the_place_has_it(monkeypatch, variables, found_at, url):
    for name in ("PORT", "HOST", "URL"):
        monkeypatch.delenv(f"LAB_PROMETHEUS_{name}", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert PROMETHEUS.found_at == found_at
    assert PROMETHEUS.url == url


def test_what_is_missing_on_hosts_is_got_there(monkeypatch):
    monkeypatch.setattr(settings, "ON_HOSTS", True)
    assert [link.name for link in links.links_here()] == [link.name for link in links.LINKS]
    assert all("PLACE=vms" in link.missing for link in links.links_here())
