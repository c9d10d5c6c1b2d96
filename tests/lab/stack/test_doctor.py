"""What doctor finds on a machine, real or pretended."""

from __future__ import annotations

import errno
import os
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
    monkeypatch.setattr(doctor.engines, "docker", lambda *_: (1, "no engine"))
    found = {finding.subject: finding for finding in doctor.examine()}
    assert found["kernel"].level == "fail"
    assert "containers" in found["kernel"].remedy


def test_system_that_is_not_linux_is_judged_by_its_engine(monkeypatch):
    says = {"{{.KernelVersion}}": "6.10.14-linuxkit", "{{.MemoryLimit}} {{.CgroupVersion}}": "true 2"}
    says |= {"{{.NCPU}}": "1", "{{.MemTotal}}": str(4 << 30)}
    monkeypatch.setattr(doctor, "LINUX", False)
    monkeypatch.setattr(doctor.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(doctor.engines, "docker", lambda *words: (0, says.get(words[-1], "")))
    found = {finding.subject: finding for finding in doctor.examine()}
    levels = {subject: found[subject].level for subject in ("kernel", "user namespaces", "cgroups", "memory", "cores")}
    assert levels == {"kernel": "ok", "user namespaces": "ok", "cgroups": "ok", "memory": "ok", "cores": "warn"}
    assert "6.10.14-linuxkit" in found["kernel"].detail
    assert found["cores"].remedy == doctor.GIVE_IT_MORE
    assert not found.keys() & {"accept queue", "file descriptors", "sock_diag", *doctor.TOOLS}


@pytest.mark.parametrize(
    ("release", "level", "word"),
    [
        ("4.4.0-19041-Microsoft", "fail", "wsl --set-version"),
        ("5.15.167.4-microsoft-standard-WSL2", "warn", "hwclock"),
        ("6.6.87.2-microsoft-standard-WSL2+", "warn", "hwclock"),
    ],
)
def test_wsl_is_known_and_what_is_doubtful_there(monkeypatch, tmp_path, release, level, word):
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/osrelease").write_text(f"{release}\n")
    monkeypatch.setattr(doctor.machines, "ROOT", tmp_path)
    (finding,) = doctor.wsl()
    assert (finding.level, word in finding.remedy) == (level, True)


def test_other_kernels_are_no_wsl(monkeypatch, tmp_path):
    assert list(doctor.wsl()) == []
    monkeypatch.setattr(doctor.machines, "ROOT", tmp_path)  # no /proc at all
    assert list(doctor.wsl()) == []


def test_codespace_says_what_its_page_is_called(monkeypatch):
    assert list(doctor.codespace()) == []
    monkeypatch.setenv("CODESPACES", "true")
    monkeypatch.setenv("CODESPACE_NAME", "robot-x7")
    (finding,) = doctor.codespace()
    assert "robot-x7-8080.app.github.dev" in finding.detail


def test_folder_without_unix_sockets_is_found(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor.parts, "STATE_DIR", tmp_path / "made" / "later")
    assert [finding.level for finding in doctor.sockets()] == ["ok"]

    class Windows(socket.socket):
        def bind(self, address):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(doctor.socket, "socket", Windows)
    (finding,) = doctor.sockets()
    assert (finding.level, "LAB_STATE_DIR" in finding.remedy) == ("fail", True)
    assert list(tmp_path.iterdir()) == []


def test_kernel_that_shows_no_queues_is_found(monkeypatch):
    assert doctor.sock_diag().level == "ok"
    monkeypatch.setattr(doctor, "NETLINK_SOCK_DIAG", 31)  # no such protocol
    assert doctor.sock_diag().level == "warn"
