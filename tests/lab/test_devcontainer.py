"""The dev container agrees with what the lab says elsewhere. That it comes up was tried by hand (docs/machines.md)."""

from __future__ import annotations

import json
import re

import yaml

from lab import settings
from lab.stack import parts

FOLDER = settings.CHECKOUT / ".devcontainer"
LINES = (FOLDER / "devcontainer.json").read_text(encoding="utf-8").splitlines()
CONTAINER = json.loads("\n".join(line for line in LINES if not line.lstrip().startswith("//")))
PORTS = {port.default: port.part for port in settings.PORTS if port is not settings.GRAFANA}
"""Grafana is no part of the local place, and that is the one that comes up in there."""


def test_every_port_is_forwarded_under_the_name_of_its_part():
    assert set(PORTS) == {port.default for port in parts.ports("local")}
    assert sorted(CONTAINER["forwardPorts"]) == sorted(PORTS)
    labels = {int(port): had["label"].partition(":")[0] for port, had in CONTAINER["portsAttributes"].items()}
    assert labels == PORTS


def test_live_page_opens_by_itself_and_nothing_else_does():
    opened = {port for port, had in CONTAINER["portsAttributes"].items() if had["onAutoForward"].startswith("open")}
    assert opened == {str(settings.CONSOLE.default)}
    assert CONTAINER["otherPortsAttributes"] == {"onAutoForward": "ignore"}


def test_experiments_may_make_namespaces_as_in_the_containers_place():
    compose = yaml.safe_load((settings.CHECKOUT / "docker-compose.yml").read_text(encoding="utf-8"))
    theirs = [re.sub(r"\$\{\w+:-(.*)\}", r"\1", option) for option in compose["services"]["lab"]["security_opt"]]
    ours = [re.sub(r"\$\{localEnv:\w+:(.*)\}", r"\1", option) for option in CONTAINER["securityOpt"]]
    # With it there would be no sudo.
    assert ours == [option for option in theirs if not option.startswith("no-new-privileges")]


def test_state_is_outside_of_the_checkout_in_a_folder_that_the_user_has():
    folder, user = CONTAINER["containerEnv"]["LAB_STATE_DIR"], CONTAINER["remoteUser"]
    dockerfile = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    assert f"install --directory --owner={user} --group={user} {folder}" in dockerfile
    assert folder.startswith("/var/")


def test_stack_comes_up_by_targets_that_there_are():
    makefile = (settings.CHECKOUT / "Makefile").read_text(encoding="utf-8")
    assert CONTAINER["postStartCommand"] == "make lab-up PLACE=local"
    assert "make .venv/lab.stamp" in CONTAINER["onCreateCommand"]
    assert "LAB := .venv/lab.stamp" in makefile
    assert re.search(r"^lab-up:", makefile, re.MULTILINE)
