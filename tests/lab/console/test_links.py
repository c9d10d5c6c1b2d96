"""Where the tools beside the page are, in each place."""

from __future__ import annotations

import pytest
from support.fake_grafana import FakeGrafana, serve_grafana

from lab import settings
from lab.console import links, live

GRAFANA = links.links_here()[0]


@pytest.mark.parametrize(
    ("variables", "found_at", "given_url"),
    [
        ({}, "http://127.0.0.1:9090", ""),
        ({"LAB_PROMETHEUS_PORT": "9999"}, "http://127.0.0.1:9999", ""),
        ({"LAB_PROMETHEUS_PORT": "9999", "LAB_PROMETHEUS_HOST": "prometheus"}, "http://prometheus:9090", ""),
        ({"LAB_PROMETHEUS_URL": "http://192.0.2.21:9091"}, "http://192.0.2.21:9091", "http://192.0.2.21:9091"),
        ({"LAB_PROMETHEUS_URL": "https://p.example/sub/"}, "https://p.example/sub", "https://p.example/sub"),
    ],
    ids=["here", "at another port", "in containers", "on hosts", "elsewhere"],
)
def test_tool_is_looked_for_where_the_place_has_it(monkeypatch, variables, found_at, given_url):
    for name in ("PORT", "HOST", "URL"):
        monkeypatch.delenv(f"LAB_PROMETHEUS_{name}", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert settings.PROMETHEUS.found_at == found_at
    assert settings.PROMETHEUS.given_url == given_url


def test_tool_that_a_variable_names_is_asked_there(monkeypatch):
    with serve_grafana(FakeGrafana(), prefix="/sub") as grafana:
        monkeypatch.setenv("LAB_GRAFANA_URL", grafana.url)
        assert GRAFANA.answers()
    assert not GRAFANA.answers()


def test_what_is_missing_on_hosts_is_got_there(monkeypatch):
    monkeypatch.setattr(settings, "ON_HOSTS", True)
    assert all("vms`" in link.missing for link in links.links_here())


def test_what_is_missing_in_containers_is_an_image(monkeypatch):
    monkeypatch.setattr(settings, "IN_CONTAINERS", True)
    grafana, prometheus, locust = links.links_here()
    assert "LAB_GRAFANA_IMAGE" in grafana.missing
    assert "LAB_PROMETHEUS_IMAGE" in prometheus.missing
    assert locust.missing == f"`{settings.UP}` starts it"


@pytest.mark.parametrize("place", ["", "ON_HOSTS", "IN_CONTAINERS"])
def test_commands_of_the_page_are_those_that_there_are(place, monkeypatch):
    """A wheel has no Makefile."""
    monkeypatch.setattr(settings, "WITHOUT_MAKEFILE", True)
    monkeypatch.setattr(settings, "UP", "lab up")
    if place:
        monkeypatch.setattr(settings, place, True)
    words = [live.remedy("nginx"), *links.remedies()]
    assert [text for text in words if "`lab up" not in text or "make " in text] == []
