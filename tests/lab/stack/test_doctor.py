"""What doctor finds on a machine, real or pretended."""

from __future__ import annotations

import socket

import pytest

from lab.stack import doctor


@pytest.fixture
def findings():
    return {finding.subject: finding for finding in doctor.examine()}


def test_examine_covers_the_machine(findings):
    expected = {"kernel", "architecture", "user namespaces", "container engine", "docker compose", "cgroups"}
    expected |= {"disk for images", "python", "cores", "memory", "disk", "file descriptors", "accept queue"}
    assert expected | {*doctor.TOOLS} <= set(findings)


def test_examine_gives_a_remedy_for_all_that_is_not_ok(findings):
    assert [finding for finding in findings.values() if finding.level != "ok" and not finding.remedy] == []


def test_taken_port_fails_with_its_variable(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.getsockname()[1]
        monkeypatch.setenv("LAB_REUSEPORT_PORT", str(number))
        found = {finding.subject: finding for finding in doctor.ports()}
    assert found[f"port {number}"].level == "fail"
    assert "LAB_REUSEPORT_PORT" in found[f"port {number}"].remedy


def test_port_of_a_part_that_does_not_run_here_only_warns(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.getsockname()[1]
        monkeypatch.setenv("LAB_GRAFANA_PORT", str(number))
        found = {finding.subject: finding for finding in doctor.ports()}
    assert found[f"port {number}"].level == "warn"


def test_unusable_port_variable_fails(monkeypatch):
    monkeypatch.setenv("LAB_NGINX_PORT", "0")
    (finding,) = doctor.ports()
    assert (finding.level, "LAB_NGINX_PORT" in finding.detail) == ("fail", True)


@pytest.mark.parametrize(
    ("release", "level"), [("4.4.0-21-generic", "fail"), ("4.5.0", "ok"), ("6.1+", "ok"), ("10.0-rc1", "ok")]
)
def test_kernel_needs_epollexclusive(monkeypatch, release, level):
    monkeypatch.setattr(doctor.platform, "release", lambda: release)
    assert doctor.kernel().level == level


def test_tools_that_are_missing_name_their_package(monkeypatch):
    monkeypatch.setattr(doctor, "find", lambda command: None)
    found = {finding.subject: finding for finding in doctor.tools()}
    assert found["nginx"].level == "warn"
    assert "nginx-light" in found["nginx"].remedy


def test_system_that_is_not_linux_is_told_to_use_containers(monkeypatch):
    monkeypatch.setattr(doctor, "LINUX", False)
    monkeypatch.setattr(doctor.platform, "system", lambda: "Darwin")
    found = {finding.subject: finding for finding in doctor.examine()}
    assert found["kernel"].level == "fail"
    assert "containers" in found["kernel"].remedy
