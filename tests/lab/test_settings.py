"""Variables of the environment."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from lab import settings

READERS = re.compile(r"""environ(?:\.get\(|\.setdefault\(|\[)\s*f?["']LAB_\w*["'](?!\] = )|getenv""")


def test_variable_that_is_empty_is_not_set(monkeypatch):
    monkeypatch.setenv("LAB_TRIAL", "")
    assert settings.variable("LAB_TRIAL", "default") == "default"
    monkeypatch.setenv("LAB_TRIAL", "set")
    assert settings.variable("LAB_TRIAL", "default") == "set"


def test_settings_of_empty_variables_are_the_defaults():
    names = [
        "LAB_STATE_DIR",
        "COMPOSE_PROJECT_NAME",
        "LAB_PLACE",
        "LAB_NGINX_PORT",
        "LAB_NGINX_HOST",
        "LAB_GRAFANA_URL",
    ]
    program = (
        "from lab import settings, results\nprint(settings.STATE_DIR, settings.PROJECT, settings.ON_HOSTS, "
        "settings.SERVICE_PORTS['nginx'].number, settings.host_of('nginx'), settings.GRAFANA.found_at, "
        "results.keep_from_environment())"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LAB_")}
    empty = dict.fromkeys([*names, "LAB_RESULTS_KEEP"], "")
    shown = [
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=settings.CHECKOUT,
            env={**environment, **more},
        ).stdout
        for more in ({}, empty)
    ]  # fmt: skip
    assert shown[0] == shown[1]


def test_readme_gives_every_port_of_a_second_lab_another_number():
    readme = (settings.CHECKOUT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```console\n(\$ export LAB_STATE_DIR=.*?)\$ make lab-up", readme, re.DOTALL)
    commands = block.replace("$ export", "export").replace("$ port", "port")
    shown = subprocess.run(["sh", "-c", f"{commands}env"], capture_output=True, text=True, check=True).stdout
    variables = dict(line.partition("=")[::2] for line in shown.splitlines())
    numbers = {variables[port.variable] for port in settings.PORTS}
    assert len(numbers) == len(settings.PORTS)
    assert numbers.isdisjoint(str(port.default) for port in settings.PORTS)


@pytest.mark.parametrize("given", [(), ("PLACE=", "MODEL="), ("PLACE=local", "MODEL=ramcloud")])
def test_make_takes_what_is_empty_as_not_set(require_tool, given):
    words = [require_tool("make"), "--dry-run", "--always-make", "lab-up", "load"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    for more, variables in ((list(given), {}), ([], dict(each.split("=") for each in given))):
        done = subprocess.run(
            [*words, *more], cwd=settings.CHECKOUT, env={**environment, **variables}, capture_output=True, text=True
        )
        expected = ("local", "ramcloud") if "PLACE=local" in given else ("auto", "nginx")
        assert re.search(rf"up --place '?{expected[0]}'? *\n", done.stdout), done.stdout
        assert re.search(rf"load '?{expected[1]}'?", done.stdout), done.stdout


def test_nobody_else_reads_variables_of_the_lab():
    files = set((settings.CHECKOUT / "lab").rglob("*.py")) - {settings.CHECKOUT / "lab" / "settings.py"}
    others = sorted(path.name for path in files if READERS.search(path.read_text(encoding="utf-8")))
    assert others == [], "use lab.settings.variable: empty means not set"
