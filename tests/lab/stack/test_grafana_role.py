"""Ansible's role `grafana`, played on this machine, where it declares what systemd would be given on a host."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from dashboards.parts import CONSOLE
from lab import settings
from lab.grafana import sync
from lab.stack import playbook

CONFIG_DIR = "/etc/accept-lab"
GRAFANA = "/usr/share/grafana/bin/grafana"


@pytest.fixture
def play(tmp_path, monkeypatch):
    """What the role says, and the programs that it declares, on a host where it has found `found`."""
    # The role looks for files beside the playbook's folder.
    (tmp_path / "dashboards").symlink_to(settings.CHECKOUT / "dashboards")
    (tmp_path / "playbook").mkdir()
    book, declared = tmp_path / "playbook" / "play.yml", tmp_path / "declared.json"
    tasks = [
        {"ansible.builtin.copy": {"content": "{{ grafana_programs | default([]) | to_json }}", "dest": str(declared)}}
    ]
    variables = {
        "lab_config_dir": CONFIG_DIR,
        "lab_state_dir": str(tmp_path),
        "ansible_python_interpreter": sys.executable,
    }
    book.write_text(json.dumps([{
        "hosts": "localhost", "connection": "local", "gather_facts": False, "any_errors_fatal": True,
        "vars_files": [str(playbook.PROVISIONING / "group_vars" / "all.yml")], "roles": [str(playbook.PROVISIONING / "roles" / "grafana")], "tasks": tasks,
    }]))  # fmt: skip
    monkeypatch.setattr(playbook.parts, "STATE_DIR", tmp_path)

    def run(found: str, scrape_interval: str = "1s", **environment: str) -> tuple[str, list[dict[str, Any]]]:
        extra = json.dumps({**variables, "lab_scrape_interval": scrape_interval, "grafana_found": {"stdout": found}})
        command = [
            sys.executable,
            "-m",
            "ansible",
            "playbook",
            "--inventory",
            "localhost,",
            "--extra-vars",
            extra,
            book,
        ]
        done = subprocess.run(
            command, env={**playbook.ansible_environment(), **environment}, cwd=playbook.PROVISIONING,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout, json.loads(declared.read_text())

    return run


def test_grafana_that_cannot_be_installed_is_left_out_and_the_rest_goes_on(play, tmp_path):
    """Root's apt-get is not called: whoever plays the role is nobody, by this `id`."""
    (tmp_path / "id").write_text("#!/bin/sh\necho 65534\n")
    (tmp_path / "id").chmod(0o755)
    said, programs = play("package", PATH=f"{tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin")
    assert re.search(r"Grafana is left out: this user is not root; ask root to install: grafana$", said, re.MULTILINE)
    assert programs == []


def test_grafana_without_a_package_is_left_out(play):
    said, programs = play("")
    assert "Grafana is left out: localhost has no package source for it" in said
    assert programs == []


def test_grafana_gets_dashboards_that_lead_to_the_live_page_where_it_is(play):
    said, (grafana,) = play(GRAFANA, LAB_CONSOLE_PORT="28080")
    assert "left out" not in said
    assert grafana["argv"][0] == GRAFANA
    folder = yaml.safe_load(grafana["files"][f"{CONFIG_DIR}/grafana/provisioning/dashboards/lab.yml"])
    path = folder["providers"][0]["options"]["path"]
    shipped = {f"{path}/{file.name}" for file in (sync.DASHBOARDS / "json").glob("*.json")}
    assert shipped
    assert {name for name in grafana["files"] if name.endswith(".json")} == shipped
    for name in shipped:
        assert json.loads(grafana["files"][name])["uid"]
        assert '"http://127.0.0.1:28080"' in grafana["files"][name]
        assert CONSOLE not in grafana["files"][name]


@pytest.mark.parametrize(("scrape_interval", "step"), [("1s", "2s"), ("5s", "5s")])
def test_no_query_is_finer_than_the_scrape(play, scrape_interval, step):
    _, (grafana,) = play(GRAFANA, scrape_interval)
    sources = yaml.safe_load(grafana["files"][f"{CONFIG_DIR}/grafana/provisioning/datasources/lab.yml"])
    assert sources["datasources"][0]["jsonData"] == {"httpMethod": "POST", "timeInterval": scrape_interval}
    for board in (json.loads(text) for name, text in grafana["files"].items() if name.endswith(".json")):
        assert {target["interval"] for panel in board["panels"] for target in panel.get("targets", [])} == {step}
