"""The units' exposure, as `systemd-analyze security` sees it (0: confined, 10: not at all), does not get worse.

The score is held at what was measured with systemd 252, and so is the list of what is not confined, with reasons.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import jinja2
import pytest
from ansible.plugins.filter.core import FilterModule
from support.tools import require_tool

from lab.stack import playbook

ROLES = playbook.PROVISIONING / "roles"
FOLDERS = [ROLES / "systemd" / "templates", ROLES / "firewall" / "templates"]
PROGRAM = {
    "name": "nginx",
    "argv": ["/usr/bin/python3", "-m", "services", "nginx"],
    "options": {"port": 8004, "state-dir": "/var/lib/accept-lab/models/nginx"},
    "directory": "/opt/accept-lab",
    "environment": {"LAB_PLACE": "vms"},
    "state": "models/nginx",
    "stop_seconds": 15,
}
MOST = {"part.service.j2": 1.7, "accept-lab-firewall.service.j2": 2.0}
"""Exposure of every part (they differ in what they run, not in what they may), and of what loads the firewall."""
COMMON = {
    "PrivateNetwork": "it serves on the host's network, or sets its rules",
    "RestrictAddressFamilies_AF_UNIX": "control.sock, and the resolver",
    "RestrictAddressFamilies_AF_NETLINK": "sock_diag shows the queues; nftables is set by it",
    "IPAddressDeny": "who may reach which port is in the firewall's rules, which know the groups of hosts",
    "PrivateUsers": "no right is left that another user would be hidden from",
    "ProcSubset": "/proc/sys has somaxconn and other limits that /state shows",
    "PrivateMounts": "no right to mount is left (CapabilityBoundingSet, @mount)",
    "DeviceAllow": "ProtectClock allows the clock's device for reading, and PrivateDevices nothing else",
    "SystemCallFilter_privileged": "@system-service has some of them, and none works without its capability",
    "SystemCallFilter_resources": "@system-service has them: a server raises its own limit of descriptors",
}
NOT_CONFINED = {
    "part.service.j2": {
        **COMMON,
        "RestrictAddressFamilies_AF_INET_INET6": "it serves",
        "RootDirectoryOrRootImage": "Python and the checkout are the host's, and read-only",
    },
    "accept-lab-firewall.service.j2": {
        **COMMON,
        "UserOrDynamicUser": "rules are set by root",
        "CapabilityBoundingSet_CAP_NET_ADMIN": "and with this capability alone",
    },
}
SCORE = re.compile(r"Overall exposure level for \S+: ([\d.]+)")


def rendered(template: str) -> str:
    """Return the unit's text, with Ansible's own filters."""
    environment = jinja2.Environment(trim_blocks=True, loader=jinja2.FileSystemLoader(FOLDERS))
    environment.filters |= FilterModule().filters()
    environment.globals["lookup"] = lambda _kind, path: environment.get_template(Path(path).name).render()
    return environment.get_template(template).render(program=PROGRAM, lab_config_dir="/etc/accept-lab", role_path=".")


def examined(folder: Path, template: str, *options: str, more: str = "") -> str:
    """Return what systemd-analyze says of the unit; `more` are lines behind those of its last section."""
    unit = folder / "accept-lab-tried.service"
    unit.write_text(rendered(template).replace("[Install]", f"{more}\n[Install]"))
    command = [require_tool("systemd-analyze"), "security", "--offline=true", "--no-pager", *options, str(unit)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout


def score(folder: Path, template: str, more: str = "") -> float:
    found = SCORE.search(examined(folder, template, more=more))
    assert found
    return float(found[1])


@pytest.mark.parametrize("template", MOST)
def test_exposure_is_no_more_than_measured(tmp_path: Path, template: str) -> None:
    assert score(tmp_path, template) <= MOST[template]


@pytest.mark.parametrize("template", MOST)
def test_what_is_not_confined_has_a_reason(tmp_path: Path, template: str) -> None:
    found: list[dict[str, Any]] = json.loads(examined(tmp_path, template, "--json=short"))
    exposed = {each["json_field"] for each in found if each["set"] is False and float(each["exposure"] or 0) > 0}
    assert exposed == set(NOT_CONFINED[template])


def test_weaker_unit_is_seen(tmp_path: Path) -> None:
    assert score(tmp_path, "part.service.j2", more="PrivateDevices=no\nRestrictNamespaces=no") > MOST["part.service.j2"]
