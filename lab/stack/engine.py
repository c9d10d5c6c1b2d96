"""The Docker engine: whether there is one that the lab can use, where, and if not, what to do about it.

`python -m lab.stack.engine` prints its address, for Ansible; without one it says why in a line and ends with 2.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass

from lab import settings
from lab.sandbox import apparmor

ENGINE_NEEDED = (20, 10)
"""Of Debian 12; what the lab asks of an engine is tried with it."""
COMPOSE_NEEDED = (2, 18)
"""Version that Ansible's community.docker asks for."""
ANSWER_SECONDS = 10.0
OR_LOCAL = f"or stay without: {settings.up_at('local')}"
UNCONFINED = "unconfined"
INSTALL_COMPOSE = f"install docker-compose-plugin, {OR_LOCAL}"


class EngineError(Exception):
    """There is no engine that the lab can use: one line that says why, and what to do."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}: {remedy}")
        self.problem = problem
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that answers: its address as `DOCKER_HOST` takes it, its version and Compose's."""

    host: str
    version: str
    compose: str


def find() -> Engine:
    """The engine that the `docker` command talks to. Takes about 0.2 s. Raises EngineError."""
    host, version = reach()
    return Engine(host, version, compose_version())


def reach() -> tuple[str, str]:
    """The engine's address and version. Raises EngineError."""
    if not shutil.which("docker"):
        raise EngineError("there is no `docker` command", f"install a Docker engine and its Compose plugin, {OR_LOCAL}")
    host = address()
    return host, engine_version(host)


def address() -> str:
    """Return the engine's address: `DOCKER_HOST`, or else what the chosen context says. Raises EngineError."""
    if host := os.environ.get("DOCKER_HOST"):
        return host
    code, said = docker("context", "inspect", "--format", "{{.Endpoints.docker.Host}}")
    if code:
        raise EngineError(f"the docker command's context is unusable ({said})", "`docker context ls` shows others")
    return said


def environment() -> dict[str, str]:
    """Our environment, with the engine's address in it for those who do not know contexts. Raises EngineError."""
    return {**os.environ, "DOCKER_HOST": address()}


def engine_version(host: str) -> str:
    """The engine's version, if it answers and is not too old. Raises EngineError."""
    code, said = docker("version", "--format", "{{.Server.Version}}")
    if code and "permission denied" in said.lower():
        raise EngineError(
            f"this user may not talk to the Docker engine at {host}",
            f"`sudo usermod -aG docker $USER` and log in anew, {OR_LOCAL}",
        )
    if code:
        raise EngineError(f"no Docker engine answers at {host}", f"start it (`systemctl start docker`), {OR_LOCAL}")
    if numbers(said) < ENGINE_NEEDED:
        raise EngineError(
            f"the Docker engine is {said}, {dotted(ENGINE_NEEDED)} or newer is needed", f"upgrade it, {OR_LOCAL}"
        )
    return said


def compose_version() -> str:
    """The version of the Compose plugin, if it is not too old. Raises EngineError."""
    code, said = docker("compose", "version", "--short")
    if code and shutil.which("docker-compose"):
        raise EngineError(
            "there is only Compose v1 (docker-compose), which does not understand the lab's file", INSTALL_COMPOSE
        )
    if code:
        raise EngineError("`docker compose` is missing", INSTALL_COMPOSE)
    if numbers(said) < COMPOSE_NEEDED:
        raise EngineError(f"Compose is {said}, {dotted(COMPOSE_NEEDED)} or newer is needed", INSTALL_COMPOSE)
    return said.removeprefix("v")


def apparmor_profile() -> str:
    """Return the AppArmor profile for containers that run experiments: `LAB_APPARMOR`, or what this machine needs.

    Where AppArmor restricts user namespaces, that is the lab's own profile, if the kernel has it: the engine refuses to
    start a container with one that is not loaded. The engine's kernel may also be another one, in a virtual machine.
    """
    if given := settings.variable("LAB_APPARMOR"):
        return given
    if not (apparmor.restricts() and apparmor.is_loaded()):
        return UNCONFINED
    code, said = docker("info", "--format", "{{.KernelVersion}} {{.SecurityOptions}}")
    ours = code == 0 and said.startswith(f"{platform.release()} ") and "name=apparmor" in said
    return apparmor.PROFILE if ours else UNCONFINED


def docker(*arguments: str) -> tuple[int, str]:
    """Run the docker command; its exit code and the last line that it said."""
    try:
        done = subprocess.run(
            ["docker", *arguments], capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return 1, f"no answer within {ANSWER_SECONDS:g} s"
    except OSError as error:
        return 1, str(error)
    lines = (done.stdout.strip() if done.returncode == 0 else done.stderr.strip()).splitlines()
    return done.returncode, lines[-1] if lines else ""


def numbers(version: str) -> tuple[int, int]:
    """(2, 24) of "v2.24.1-desktop.1"; (0, 0) of what is no version."""
    found = re.match(r"v?(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def dotted(version: tuple[int, int]) -> str:
    """ "2.24" of (2, 24)."""
    return ".".join(map(str, version))


def main() -> int:
    """Print the engine's address, or why there is none."""
    try:
        print(find().host)
    except EngineError as error:
        print(error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
