"""Docker's bench on docker-compose.yml and Dockerfile: the rules of sections 4 and 5 that files can show, by number.

The numbers are those of the CIS Docker Benchmark 1.6, as docker-bench-security has them. That needs a running engine,
and looks at whatever runs there, as tests/e2e/test_containers.py does for the main rules. A rule without a test is in
`LEFT_OUT` with the reason, and a service that is excepted from one in `EXCEPTED`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from lab import settings

Service = dict[str, Any]
DEFAULT = re.compile(r"\$\{\w+:[-+]([^}]*)\}")
TEXT = DEFAULT.sub(r"\1", (settings.CHECKOUT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, Service] = yaml.safe_load(TEXT)["services"]
DOCKERFILE = (settings.CHECKOUT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
HIGHEST_PRIVILEGED = 1024
SENSITIVE = ("/", "/boot", "/dev", "/etc", "/lib", "/proc", "/sys", "/usr", "/var/run/docker.sock", "/run/docker.sock")


def options(service: Service) -> list[str]:
    return [str(option) for option in service.get("security_opt", ())]


def mounts(service: Service) -> list[str]:
    """Return the sources of what is mounted: names of volumes, or paths."""
    return [volume.partition(":")[0] for volume in service.get("volumes", ())]


def ports(service: Service) -> list[list[str]]:
    """Return address, the host's and the container's port of each that is published."""
    return [str(port).split(":") for port in service.get("ports", ())]


def no(*keys: str) -> Callable[[Service], bool]:
    """Return the rule that none of these is given."""
    return lambda service: not any(service.get(key) for key in keys)


def own(key: str) -> Callable[[Service], bool]:
    """Return the rule that a namespace is not the host's."""
    return lambda service: service.get(key) != "host"


RULES: dict[str, tuple[str, Callable[[Service], bool]]] = {
    "5.2": ("AppArmor is not switched off", lambda service: "apparmor=unconfined" not in options(service)),
    "5.4": (
        "capabilities are dropped",
        lambda service: service.get("cap_drop") == ["ALL"] and not service.get("cap_add"),
    ),
    "5.5": ("not privileged", no("privileged")),
    "5.6": ("no sensitive folder of the host is mounted", lambda service: not {*SENSITIVE} & {*mounts(service)}),
    "5.8": (
        "no privileged port",
        lambda service: all(int(port) > HIGHEST_PRIVILEGED for _, *both in ports(service) for port in both),
    ),
    "5.9": ("only ports of the settings", lambda service: {int(port[1]) for port in ports(service)} <= KNOWN_PORTS),
    "5.10": ("a network of its own", own("network_mode")),
    "5.11": ("memory is limited", lambda service: bool(service.get("mem_limit"))),
    "5.13": ("the root file system is read-only", lambda service: service.get("read_only") is True),
    "5.14": ("published on loopback", lambda service: all(port[0] == "127.0.0.1" for port in ports(service))),
    "5.16": ("processes of its own", own("pid")),
    "5.17": ("memory segments of its own", own("ipc")),
    "5.18": ("no device", no("devices", "device_cgroup_rules")),
    "5.19": ("limits of descriptors and processes are not raised", no("ulimits")),
    "5.20": ("mounts do not spread", lambda service: "shared" not in str(service.get("volumes", ""))),
    "5.21": ("a host name of its own", own("uts")),
    "5.22": ("seccomp is not switched off", lambda service: "seccomp=unconfined" not in options(service)),
    "5.25": ("in the engine's own cgroup", no("cgroup_parent")),
    "5.26": ("no new privileges", lambda service: "no-new-privileges:true" in options(service)),
    "5.27": ("its health is looked at", lambda service: bool(service.get("healthcheck", {}).get("test"))),
    "5.29": ("processes are limited", lambda service: 0 < service.get("pids_limit", 0) <= HIGHEST_PRIVILEGED),
    "5.30": ("not on the engine's common bridge", lambda service: service.get("network_mode") != "bridge"),
    "5.31": ("user namespace of the engine's", own("userns_mode")),
    "5.32": ("not the engine's socket", lambda service: "docker.sock" not in str(service.get("volumes", ""))),
}
KNOWN_PORTS = {port.default for port in settings.PORTS}
EXPERIMENTS = "it runs experiments, each in namespaces of its own; it has no capability outside them"
EXCEPTED = {
    ("5.2", "console"): EXPERIMENTS,
    ("5.2", "lab"): EXPERIMENTS,
    ("5.22", "console"): EXPERIMENTS,
    ("5.22", "lab"): EXPERIMENTS,
    ("5.11", "lab"): "one command of its user's, which may load as much as it was told to",
    ("5.27", "lab"): "it ends with its command, whose exit code says how it went",
    ("5.27", "locust-worker"): "it listens nowhere; its master counts it",
}
LEFT_OUT = {
    "5.1": "swarm mode is the engine's, not a file's",
    "5.3": "SELinux's labels are the host's: Compose sets none, and switches none off",
    "5.12": "shares of the processor would change what is measured; the user may set them (LAB_MODELS_CPUSET)",
    "5.15": "restart on-failure:5: a model that is killed on purpose (`lab chaos`) is to come back each time; the "
    "engine itself waits longer before each start, up to a minute",
    "5.23": "`docker exec --privileged`: an engine's command, which nothing of the lab gives",
    "5.24": "`docker exec --user root`: the same",
    "5.28": "always the latest image: ours are built here, the others' versions are fixed, for runs that are repeated",
}


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("rule", RULES)
def test_service_keeps_the_rule(rule: str, service: str) -> None:
    text, holds = RULES[rule]
    assert holds(SERVICES[service]) is ((rule, service) not in EXCEPTED), f"{rule}: {text}"


def test_every_rule_of_section_5_is_tested_or_left_out_with_a_reason() -> None:
    numbers = [f"5.{number}" for number in range(1, 33)]
    assert sorted([*RULES, "5.7", *LEFT_OUT]) == sorted(numbers)
    assert {service for _, service in EXCEPTED} <= SERVICES.keys()


WEAK: Service = {
    "security_opt": ["apparmor=unconfined", "seccomp=unconfined"], "cap_add": ["NET_ADMIN"], "privileged": True,
    "volumes": ["/etc:/etc:shared", "/var/run/docker.sock:/var/run/docker.sock"], "ports": ["0.0.0.0:80:80"],
    "network_mode": "host", "pid": "host", "ipc": "host", "uts": "host", "userns_mode": "host", "devices": ["/dev/kvm"],
    "ulimits": {"nofile": 1}, "cgroup_parent": "/",
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_weak_service_breaks_the_rule(rule: str) -> None:
    weak = {**WEAK, "network_mode": "bridge"} if rule == "5.30" else WEAK
    assert not RULES[rule][1](weak)


def lines(instruction: str) -> list[str]:
    """Return the Dockerfile's lines of this instruction, without it."""
    return [line.partition(" ")[2] for line in DOCKERFILE if line.startswith(f"{instruction} ")]


def test_rules_4_1_and_5_7_images_end_as_nobody_and_have_no_ssh() -> None:
    stages = "\n".join(DOCKERFILE).split("FROM ")
    (common,) = (stage for stage in stages if " AS common" in stage)
    (lab,) = (stage for stage in stages if stage.startswith("common AS lab"))
    assert [re.findall(r"^USER (\S+)", stage, re.MULTILINE)[-1] for stage in (common, lab)] == ["10001:10001"] * 2
    assert SERVICES["prometheus"]["user"] == "nobody"  # Grafana's image has a user of its own
    assert not [line for line in DOCKERFILE if "ssh" in line]


def test_rule_4_7_lists_are_updated_with_an_install_only() -> None:
    assert [line for line in lines("RUN") if "apt-get update" in line and "apt-get install" not in line] == []


def test_rule_4_9_copy_instead_of_add() -> None:
    assert lines("ADD") == []


def test_rule_4_10_no_secret_in_the_images() -> None:
    given = " ".join((*lines("ENV"), *lines("ARG")))
    assert not re.search("password|secret|token", given, re.IGNORECASE)
