"""A Grafana of the test's own, and the command on it."""

from __future__ import annotations

import pytest
from support.fake_grafana import FakeGrafana, serve_grafana
from typer.testing import CliRunner

from lab import cli
from lab.grafana import sync


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """An empty dashboards/ in place of the checkout's; and none of the user's variables."""
    for name in ("URL", "HOST", "TOKEN", "USER", "PROMETHEUS_URL", "PORT"):
        monkeypatch.delenv(f"LAB_GRAFANA_{name}", raising=False)
    monkeypatch.setattr(sync.read_dashboards, "__defaults__", (tmp_path,))
    return tmp_path


@pytest.fixture
def grafana(monkeypatch):
    with serve_grafana(FakeGrafana()) as served:
        monkeypatch.setenv("LAB_GRAFANA_URL", served.url)
        monkeypatch.setenv("LAB_GRAFANA_TOKEN", "secret")
        yield served


@pytest.fixture
def lab():
    return lambda *arguments: CliRunner().invoke(cli.app, ["grafana", *arguments], catch_exceptions=False)
