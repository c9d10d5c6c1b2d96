"""Ansible's variables agree with the tables that the rest of the lab reads."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest
import yaml

from lab import settings, state_folder
from lab.settings import CHECKOUT
from lab.stack import cpusets, playbook, up_down
from services.options import COMMON, MODELS

VARIABLES = yaml.safe_load((playbook.PROVISIONING / "group_vars" / "all.yml").read_text())


def lookup_of(text: str) -> tuple[str, int]:
    """The variable and the default of a port's expression."""
    variable, default = re.search(r"'(LAB_\w+)', default='(\d+)'", text).groups()
    return variable, int(default)


@pytest.mark.parametrize(
    ("name", "ports"), [("lab_service_ports", settings.SERVICE_PORTS), ("lab_admin_ports", settings.ADMIN_PORTS)]
)
def test_ports_of_the_models_are_those_of_the_settings(name, ports):
    found = {model: lookup_of(text) for model, text in VARIABLES[name].items()}
    assert found == {model: (port.variable, port.default) for model, port in ports.items()}


@pytest.mark.parametrize("port", [settings.PROMETHEUS, settings.LOCUST, settings.GRAFANA, settings.CONSOLE])
def test_ports_of_the_other_parts_are_those_of_the_settings(port):
    assert lookup_of(VARIABLES[f"lab_{port.part}_port"]) == (port.variable, port.default)


def test_server_options_are_options_of_every_model():
    names = {option.name for option in COMMON}
    assert set(VARIABLES["lab_server_options"]) <= names
    assert {"workers": 4, "backlog": 128}.items() <= VARIABLES["lab_server_options"].items()


def test_model_options_list_every_model():
    assert set(VARIABLES["lab_model_options"]) == set(MODELS)


def test_dashboards_are_all_listed():
    assert VARIABLES["lab_dashboard_files"] == sorted(file.name for file in (CHECKOUT / "dashboards/json").iterdir())


def test_environment_keeps_ansible_in_the_state_folder_and_drops_the_users_settings(monkeypatch):
    monkeypatch.setenv("ANSIBLE_STRATEGY", "free")
    environment = playbook.ansible_environment()
    assert "ANSIBLE_STRATEGY" not in environment
    for name in ("ANSIBLE_HOME", "ANSIBLE_LOCAL_TEMP", "ANSIBLE_REMOTE_TEMP"):
        assert environment[name].startswith(str(settings.STATE_DIR))


def test_environment_has_nothing_that_is_empty_or_of_another_encoding(monkeypatch):
    for name in ("LAB_NGINX_PORT", "COMPOSE_PROJECT_NAME"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    monkeypatch.setenv("LAB_LOCUST_PORT", "1")
    environment = playbook.ansible_environment()
    assert environment["LAB_LOCUST_PORT"] == "1"
    assert {"LAB_NGINX_PORT", "COMPOSE_PROJECT_NAME", "PYTHONIOENCODING"}.isdisjoint(environment)


def test_ansible_writes_elsewhere_where_the_state_folder_takes_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(playbook, "MEMORY", tmp_path)
    monkeypatch.setattr(state_folder, "LEAST_BYTES", 1 << 62)
    home = playbook.ansible_home(tmp_path / "full")
    assert home.parent == tmp_path
    assert home.is_dir()
    assert playbook.ansible_home(tmp_path / "full") == home


def test_up_refuses_a_full_disk_before_anything_starts(monkeypatch, capsys):
    monkeypatch.setattr(up_down, "play", lambda *_: pytest.fail("something was started"))
    monkeypatch.setattr(state_folder, "LEAST_BYTES", 1 << 62)
    assert up_down.up("local") == 2
    assert "No space left on device; make room there" in capsys.readouterr().err


def test_containers_can_read_what_is_mounted_whatever_the_umask_was(monkeypatch, tmp_path):
    folder = tmp_path / "rules"
    folder.mkdir(0o700)
    (folder / "alerts.yml").touch(0o600)
    monkeypatch.setattr(up_down, "MOUNTED", (tmp_path,))
    monkeypatch.setattr(cpusets, "check", lambda: None)
    up_down.check_containers()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert stat.S_IMODE((folder / "alerts.yml").stat().st_mode) == 0o644


def test_folders_that_containers_mount_are_those_of_compose():
    mounts = set(re.findall(r"- \./(\S+?):/", (CHECKOUT / "docker-compose.yml").read_text()))
    assert mounts
    assert [
        mount for mount in mounts if not any((CHECKOUT / mount).is_relative_to(each) for each in up_down.MOUNTED)
    ] == []


@pytest.mark.parametrize("place", ["vms", "moon"])
def test_up_refuses_a_place_that_is_not_there(place, capsys):
    assert up_down.up(place) == 2
    output = capsys.readouterr()
    assert place in output.err
    assert output.err.count("\n") == 1


def test_up_refuses_an_unusable_port_before_anything_starts(monkeypatch, capsys):
    monkeypatch.setenv("LAB_NGINX_PORT", "70000")
    monkeypatch.setattr(up_down, "play", lambda *_: pytest.fail("something was started"))
    assert up_down.up("local") == 2
    assert "LAB_NGINX_PORT" in capsys.readouterr().err


def test_second_run_at_the_same_time_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(up_down.parts, "STATE_DIR", tmp_path)
    with up_down.alone(), pytest.raises(up_down.RefusalError, match="at work"), up_down.alone():
        pytest.fail("both hold the lock")
    assert list(tmp_path.iterdir()) == []  # what only locks takes no space on a disk that may be full


@pytest.mark.parametrize("folder", ["a:b", "a\nb"])
def test_up_refuses_a_folder_that_cannot_be_written_down(monkeypatch, capsys, folder):
    monkeypatch.setattr(up_down, "FOLDERS", (Path("/tmp") / folder,))
    monkeypatch.setattr(up_down, "play", lambda *_: pytest.fail("something was started"))
    assert up_down.up("local") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_variable_that_a_folder_names_is_kept_from_ansible(monkeypatch):
    monkeypatch.setenv("LAB_TEST_ONE", "1")
    monkeypatch.setenv("LAB_TEST_TWO", "2")
    monkeypatch.setattr(playbook, "FOLDERS", (Path("/tmp/my $LAB_TEST_ONE ${LAB_TEST_TWO}"),))
    assert {"LAB_TEST_ONE", "LAB_TEST_TWO"}.isdisjoint(playbook.ansible_environment())


def test_up_without_all_parts_is_no_success(monkeypatch, tmp_path):
    monkeypatch.setattr(up_down.parts, "STATE_DIR", tmp_path)
    monkeypatch.setattr(up_down, "choose", lambda _: "local")
    monkeypatch.setattr(up_down, "check_ports", lambda _: None)
    monkeypatch.setattr(up_down, "play", lambda *_: 0)
    monkeypatch.setattr(up_down.settling, "settle", lambda _: 1)
    assert up_down.up("local") == 1
