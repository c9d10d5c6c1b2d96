"""Compose's file, Ansible's variables and the models' option table say the same."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from ansible.plugins.filter.core import FilterModule
from support.tools import require_tool

from lab import settings
from lab.stack import parts, playbook
from services import command_line
from services.options import MODELS, Option, options_of

TEXT = (settings.CHECKOUT / "docker-compose.yml").read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
ROLES = playbook.PROVISIONING / "roles"
GROUP_VARS = {
    name: (playbook.PROVISIONING / "group_vars" / f"{name}.yml").read_text(encoding="utf-8")
    for name in ("all", "containers")
}
ANSIBLES_OWN = re.compile(r"lookup\('ansible.builtin.env', '(LAB_\w+)'(?:, default='([^']*)')?\)")
ADDRESSES = ("host", "port", "admin-port", "state-dir")
"""What each place gives the servers itself."""
COMPOSE_ALONE = {
    "LAB_IMAGE", "LAB_BUILD_NETWORK", "LAB_BUILD_CONTEXT", "LAB_GRAFANA_PASSWORD",
    # Made by `lab up` of the file that LAB_APP_REQUIREMENTS names.
    "LAB_APP_PACKAGES",
    # Made of Ansible's own variables.
    "LAB_APP_DIR", "LAB_SERVER_OPTIONS", "LAB_PROMETHEUS_CONFIG", "LAB_DASHBOARDS", "LAB_CONFIGURATION",
    *(f"LAB_{model.upper()}_OPTIONS" for model in MODELS),
}  # fmt: skip
"""Variables that Ansible does not read from the environment."""


def composes_variables() -> dict[str, str]:
    """Every variable of docker-compose.yml with its default."""
    found = set(re.findall(r"\$\{(LAB_\w+):-((?:[^}])*)\}", TEXT))
    names = [name for name, _ in found]
    assert len(names) == len(set(names)), "one variable has two defaults"
    return dict(found)


def other_value(option: Option) -> str | bool:
    """A value that is not the default."""
    if isinstance(option.default, bool):
        return not option.default
    if option.choices:
        return option.choices[-1]
    if option.name in ("app", "app-dir"):
        return "of/my own"
    return "7" if option.name == "sample-rate" else str(int(option.default) + 1)


def chosen(model: str) -> dict[str, str | bool]:
    """Every option that can be chosen for the model, none at its default."""
    values = {option.name: other_value(option) for option in options_of(model) if option.name not in ADDRESSES}
    return {**values, "worker-kind": MODELS[model].worker_kinds[-1]}


def options_that_ansible_gives(
    server_options: dict[str, Any], model_options: dict[str, Any], app: str = ""
) -> dict[str, str]:
    """The role's template with Ansible's own filters."""
    environment = jinja2.Environment(trim_blocks=True)
    environment.filters |= FilterModule().filters()
    template = environment.from_string((ROLES / "compose" / "templates" / "options.json.j2").read_text())
    return json.loads(
        template.render(
            lab_app=app,
            lab_service_ports=dict.fromkeys(MODELS, 0),
            lab_server_options=server_options,
            lab_model_options={model: {} for model in MODELS} | model_options,
        )
    )


def composed(**variables: str) -> dict[str, dict[str, Any]]:
    """Every service as Compose makes it."""
    compose = require_tool(str(Path(sys.executable).with_name("docker-compose")))
    bare = {name: value for name, value in os.environ.items() if not name.startswith("LAB_")}
    done = subprocess.run(
        [compose, "--profile", "*", "config", "--format", "json"], cwd=settings.CHECKOUT, env={**bare, **variables},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    services: dict[str, dict[str, Any]] = json.loads(done.stdout)["services"]
    return services


def commands(**variables: str) -> dict[str, list[str]]:
    """Each model's command as Compose makes it."""
    return {name: service.get("command", []) for name, service in composed(**variables).items()}


def test_compose_has_every_model_in_the_tables_order_and_every_other_part():
    assert list(SERVICES)[: len(MODELS)] == list(MODELS)
    assert set(parts.pieces("containers")) <= set(SERVICES)


@pytest.mark.parametrize("name", parts.pieces("containers"))
def test_published_ports_are_those_of_the_settings(name):
    piece = parts.pieces("containers")[name]
    published = dict.fromkeys((piece.port, piece.health_port))
    assert SERVICES[name]["ports"] == [
        f"127.0.0.1:${{{port.variable}:-{port.default}}}:{port.default}" for port in published
    ]


def test_models_differ_in_names_ports_and_options_only():
    def neutral(model: str) -> str:
        text = json.dumps(SERVICES[model]).replace(model.upper(), "MODEL").replace(model, "model")
        number = list(MODELS).index(model) + 1
        return text.replace(f"800{number}", "8000").replace(f"910{number}", "9100")

    assert len({neutral(model) for model in MODELS}) == 1


@pytest.mark.parametrize("service", ["locust", "locust-worker", "lab", "console"])
def test_who_makes_load_finds_every_model_in_the_network(service):
    hosts = {f"LAB_{model.upper()}_HOST": model for model in MODELS}
    assert SERVICES[service]["environment"].items() >= hosts.items()


def test_console_has_the_volume_of_every_model_where_it_looks_for_their_sockets():
    assert SERVICES["console"]["volumes"] == ["lab:/state", *(f"{model}:/state/models/{model}" for model in MODELS)]


def test_only_who_runs_experiments_may_make_namespaces():
    free = {name for name, service in SERVICES.items() if "seccomp=unconfined" in service["security_opt"]}
    assert free == {"console", "lab"}


@pytest.mark.parametrize(("given", "profile"), [("", "unconfined"), ("accept-lab", "accept-lab")])
def test_profile_of_apparmor_is_for_who_runs_experiments(given, profile):
    done = composed(LAB_APPARMOR=given)
    chosen = {name for name, service in done.items() if f"apparmor={profile}" in service["security_opt"]}
    assert chosen == {"console", "lab"}


@pytest.mark.parametrize("service", ["lab", "console", "locust"])
def test_who_makes_runs_keeps_them_and_finds_grafana_in_the_network(service):
    assert SERVICES[service]["environment"]["LAB_GRAFANA_HOST"] in SERVICES
    assert "lab:/state" in SERVICES[service]["volumes"]


def test_console_knows_where_it_is_and_where_a_browser_finds_the_other_tools():
    environment = SERVICES["console"]["environment"]
    assert environment["LAB_PLACE"] == "containers"
    for port in (settings.PROMETHEUS, settings.GRAFANA, settings.LOCUST):
        assert environment[f"LAB_{port.part.upper()}_HOST"] in SERVICES
        assert environment[port.variable] == f"${{{port.variable}:-{port.default}}}"


def test_composes_defaults_are_ansibles():
    ansibles = dict(ANSIBLES_OWN.findall("\n".join(GROUP_VARS.values())))
    composes = composes_variables()
    assert {name: ansibles.get(name) for name in composes if name not in COMPOSE_ALONE} == {
        name: default for name, default in composes.items() if name not in COMPOSE_ALONE
    }


def test_composes_server_options_are_ansibles():
    options = yaml.safe_load(GROUP_VARS["all"])["lab_server_options"]
    words = [f"--{name}={value}" for name, value in options.items()]
    assert composes_variables()["LAB_SERVER_OPTIONS"].split() == words


def test_small_env_moves_variables_that_compose_and_ansible_have():
    lines = (playbook.PROVISIONING / "small.env").read_text().splitlines()
    names = {line.partition("=")[0] for line in lines if line and not line.startswith("#")}
    assert names <= composes_variables().keys() - COMPOSE_ALONE


@pytest.mark.parametrize("role", ["engine", "compose", "preflight"])
def test_arguments_of_the_roles_are_variables_of_the_place_and_described_alike(role):
    given = yaml.safe_load(GROUP_VARS["all"]) | yaml.safe_load(GROUP_VARS["containers"])
    specs = yaml.safe_load((ROLES / role / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    others = yaml.safe_load((ROLES / "compose" / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    for spec in specs.values():
        assert set(spec["options"]) <= set(given)
        for name, option in spec["options"].items():
            assert option["type"] == others["main"]["options"].get(name, option)["type"], name


def test_every_option_of_every_model_reaches_its_server():
    given = options_that_ansible_gives({}, {model: chosen(model) for model in MODELS})
    for model, command in commands(**given).items():
        if model not in MODELS:
            continue
        options = command_line.parse(command)
        for option in options_of(model):
            if option.name not in ADDRESSES:
                assert options[option.key] == option.read(str(chosen(model)[option.name])), (model, option.name)


def test_application_of_ones_own_is_mounted_and_served_by_every_model():
    given = options_that_ansible_gives({}, {}, app="shop:app")
    services = composed(**given, LAB_APP_DIR="/home/me/my shop", LAB_APP_PACKAGES="flask>=3\nredis\n")
    for model in MODELS:
        (mount,) = [volume for volume in services[model]["volumes"] if volume["target"] == "/app"]
        assert (mount["type"], mount["source"], mount["read_only"]) == ("bind", "/home/me/my shop", True)
        options = command_line.parse(services[model]["command"])
        assert (options["app"], options["app_dir"]) == ("shop:app", "/app")
        assert services[model]["build"]["args"]["APP_PACKAGES"] == "flask>=3\nredis\n"
    assert composed()["nginx"]["volumes"][1]["source"] == "/dev/null"


def test_options_of_a_model_win_over_those_of_all_and_these_over_composes():
    given = options_that_ansible_gives({"workers": 3, "backlog": 7}, {"nginx": {"backlog": 9}})
    read = {model: command_line.parse(commands(**given)[model]) for model in MODELS}
    assert {model: options["workers"] for model, options in read.items()} == dict.fromkeys(MODELS, 3)
    assert {model: options["backlog"] for model, options in read.items()} == dict.fromkeys(MODELS, 7) | {"nginx": 9}


def test_switch_that_is_false_is_left_out_and_one_that_is_true_is_given():
    given = options_that_ansible_gives({"require-key": False}, {"nginx": {"require-key": True}})
    read = {model: command_line.parse(commands(**given)[model])["require_key"] for model in MODELS}
    assert read == dict.fromkeys(MODELS, False) | {"nginx": True}
