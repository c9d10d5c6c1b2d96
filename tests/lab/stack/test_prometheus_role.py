"""Ansible's roles `prometheus` and `console`, played on this machine: what they declare for a host of the vms place."""

from __future__ import annotations

import json
import subprocess
import sys

import yaml

from lab.load import seen
from lab.stack import playbook

BOTH = ("prometheus_programs", "console_programs")
TARGETS = "/etc/accept-lab/prometheus/targets"


def test_prometheus_is_told_of_every_port_that_a_load_of_the_page_may_take(tmp_path, monkeypatch):
    (tmp_path / "dashboards").symlink_to(playbook.PROVISIONING.parent / "dashboards")
    (tmp_path / "playbook").mkdir()
    (tmp_path / "playbook" / "group_vars").symlink_to(playbook.PROVISIONING / "group_vars")
    book, declared, hosts = tmp_path / "playbook" / "play.yml", tmp_path / "declared.json", tmp_path / "hosts.yml"
    one = {"hosts": {"localhost": None}}
    hosts.write_text(json.dumps({"vms": {"children": {"models": one, "observability": one, "loadgen": one}}}))
    written = {"content": "{{ [" + ", ".join(f"{name}[0]" for name in BOTH) + "] | to_json }}", "dest": str(declared)}
    book.write_text(json.dumps([{
        "hosts": "all", "connection": "local", "gather_facts": False, "any_errors_fatal": True,
        "roles": [str(playbook.PROVISIONING / "roles" / name) for name in ("prometheus", "console")],
        "tasks": [{"ansible.builtin.copy": written}],
    }]))  # fmt: skip
    extra = {
        "lab_bind_address": "192.0.2.21", "ansible_python_interpreter": sys.executable, "ansible_become": False,
        "ansible_remote_tmp": str(tmp_path / "remote"), "prometheus_found": {"stdout": "/usr/bin/prometheus"},
        "lab_load_targets": ["198.51.100.7:9111"],
    }  # fmt: skip
    monkeypatch.setattr(playbook.parts, "STATE_DIR", tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "--inventory", hosts, "--extra-vars", json.dumps(extra), book],
        env=playbook.ansible_environment(), cwd=playbook.PROVISIONING, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    prometheus, console = json.loads(declared.read_text())
    page, elsewhere = yaml.safe_load(prometheus["files"][f"{TARGETS}/loads.yml"])
    assert elsewhere["targets"] == ["198.51.100.7:9111"]
    monkeypatch.setenv(seen.LOADS_LISTEN, console["environment"][seen.LOADS_LISTEN])
    assert len(page["targets"]) == 5
    with seen.load_address("one") as address:
        assert address is not None
        assert ":".join(map(str, address)) in page["targets"]
    # Prometheus reads it again by itself when it changes.
    assert f"{TARGETS}/loads.yml" not in prometheus["reads"]
