"""What is refused before anything has started: one line that says what is wrong, and nothing is touched."""

from __future__ import annotations

import json
import socket

import pytest
from support.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def reasons(output: str) -> list[str]:
    """The lines that say why: all but the name of the failed task and the summary."""
    return [line.strip() for line in output.splitlines() if line.strip() and "FAILED" not in line and "ok=" not in line]


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"lab_locust_port": "many"}, ("lab_locust_port", "int")),
        ({"lab_server_options": [4]}, ("lab_server_options", "dict")),
        ({"lab_server_options": {"workers": "many"}}, ("lab_server_options: workers", "'many' is not a whole number")),
        ({"lab_server_options": {"metrics": False}}, ("lab_server_options: metrics", "quotes")),
        ({"lab_model_options": {"nginx": {"wakeup": "all"}}}, ("lab_model_options of nginx: wakeup", "herd")),
        ({"lab_model_options": {"nodejs": {"worker-kind": "thread"}}}, ("nodejs: worker-kind", "process")),
        ({"lab_model_options": {"apache": {}}}, ("apache", "nginx")),
    ],
)
def test_wrong_variable_is_one_line(stack: Stack, variables, words):
    done = stack.up_down("up", "local", ["--extra-vars", json.dumps(variables)])
    assert done.returncode == 2
    (line,) = reasons(done.stdout + done.stderr)
    assert [word for word in words if word not in line] == []
    assert stack.processes() == []


def write_inventory(stack: Stack, **host: object) -> str:
    path = stack.folder / "hosts.yml"
    path.write_text(json.dumps({"models": {"hosts": {"far-away": {"ansible_host": "127.0.0.1", **host}}}}))
    return str(path)


def test_host_that_cannot_be_reached_is_one_line(stack: Stack):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # held, and nobody listens
        inventory = write_inventory(stack, ansible_port=nobody.getsockname()[1], ansible_user="root")
        done = stack.make("lab-up", "PLACE=vms", LAB_INVENTORY=inventory)
    assert done.returncode == 2
    (line,) = [line for line in reasons(done.stdout + done.stderr) if "make" not in line]
    assert "far-away cannot be reached" in line
    assert "Connection refused" in line


def test_vms_without_an_inventory_says_how_to_write_one(stack: Stack):
    done = stack.make("lab-up", "PLACE=vms", LAB_INVENTORY=str(stack.folder / "none.yml"))
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("lab:")]
    assert "hosts.example.yml" in line
    assert "LAB_INVENTORY" in line


@pytest.mark.parametrize(
    ("inventory", "words"),
    [
        ({}, "no host in any of the groups"),
        ({"model": {"hosts": {"far-away": {}}}}, "no host in any of the groups"),
        (
            {"model": {"hosts": {"far-away": {}}}, "loadgen": {"hosts": {"near": {}}}},
            "far-away is in none of the groups",
        ),
    ],
)
def test_hosts_that_would_have_nothing_to_do_are_refused(stack: Stack, inventory, words):
    path = stack.folder / "hosts.yml"
    path.write_text(json.dumps(inventory))
    done = stack.make("lab-up", "PLACE=vms", LAB_INVENTORY=str(path))
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("lab:")]
    assert words in line


def test_removal_is_for_hosts(stack: Stack):
    done = stack.make("lab-down", "PLACE=local", "REMOVE=yes")
    assert done.returncode == 2
    assert "--place vms --remove" in done.stderr
