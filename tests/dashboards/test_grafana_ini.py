"""Grafana's own settings, the same file in every place: nothing dials out, and the lab has a home page."""

from __future__ import annotations

from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml

from dashboards import build
from lab import settings
from lab.stack import playbook

FILE = Path(build.__file__).parent / "grafana" / "grafana.ini"
SILENT = {
    "analytics.reporting_enabled": "false",
    "analytics.check_for_updates": "false",
    "analytics.check_for_plugin_updates": "false",
    "analytics.feedback_links_enabled": "false",
    "security.disable_gravatar": "true",
    "plugins.plugin_admin_enabled": "false",
    "plugins.preinstall_disabled": "true",
    "plugins.preinstall_auto_update": "false",
    "plugins.public_key_retrieval_disabled": "true",
    "news.news_feed_enabled": "false",
    "snapshots.external_enabled": "false",
}
"""What Grafana's documentation has for everything that asks a host of its makers', or of others."""


def settings_of_grafana() -> ConfigParser:
    parser = ConfigParser(interpolation=None)
    parser.read_string(FILE.read_text())
    return parser


@pytest.mark.parametrize(("name", "value"), SILENT.items())
def test_nothing_dials_out(name, value):
    section, key = name.split(".")
    assert settings_of_grafana()[section][key] == value


def test_every_place_has_these_settings_and_none_wins_over_them():
    compose = yaml.safe_load((settings.CHECKOUT / "docker-compose.yml").read_text())["services"]["grafana"]
    assert "./dashboards/grafana/grafana.ini:/etc/grafana/grafana.ini:ro" in compose["volumes"]
    role = (playbook.PROVISIONING / "roles/grafana/tasks/main.yml").read_text()  # local, and vms
    assert 'config: "{{ lab_checkout }}/dashboards/grafana/grafana.ini"' in role
    for name in SILENT:
        variable = f"GF_{name.replace('.', '_').upper()}"
        assert variable not in compose["environment"]
        assert variable not in role


def test_home_page_is_a_dashboard_that_is_built():
    home = settings_of_grafana()["users"]["home_page"]
    assert f"{home.removeprefix('/d/')}.json" in build.build()
