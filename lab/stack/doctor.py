"""Abilities of this machine that the lab needs, tried rather than read from settings where that is possible."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import shutil
import socket
import struct
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from lab import machines, settings
from lab.gil import models_have_gil
from lab.sandbox import apparmor, outside
from lab.stack import engine as engines
from lab.stack import parts
from lab.stack.ports import conflicts
from lab.state_folder import explain, refusal, require_room
from services.options import COMMON

Level = Literal["ok", "warn", "fail"]

LINUX = machines.LINUX
KERNEL_NEEDED = (4, 5)
"""EPOLLEXCLUSIVE; SO_ATTACH_REUSEPORT_CBPF came with the same release."""
PYTHON_NEEDED = (3, 11)
CORES_WANTED = 2
MEMORY_WANTED_BYTES = 2 << 30
DISK_WANTED_BYTES = 2 << 30
"""Prometheus keeps up to 1 GB; the rest is room for results."""
IMAGE_DISK_WANTED_BYTES = 4 << 30
"""The images, layers of their builds, and Prometheus' volume of up to 1 GB; README has what they take."""
ARCHITECTURES = {"x86_64", "amd64", "aarch64", "arm64"}
"""Those that the images of all parts exist for."""
CGROUPS = Path("/sys/fs/cgroup")
DESCRIPTORS_WANTED = 16384 + 64
"""`--max-connections` and what a server needs besides."""
TRIAL_SECONDS = 10.0
USE_CONTAINERS = "run the lab in containers on a Linux engine"
GIVE_IT_MORE = "give the engine's virtual machine more: Docker Desktop has it in its settings, under Resources"
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLMSG_ERROR, NLM_F_REQUEST, NLM_F_DUMP = 4, 20, 2, 1, 0x300
"""linux/netlink.h, linux/sock_diag.h."""
LISTEN = 10
"""State of a TCP socket: include/net/tcp_states.h."""

TOOLS = {
    "prometheus": ("prometheus", f"the stack's metrics; `{settings.UP}` as root installs it on Debian"),
    "wrk": ("wrk", "`make bench` and two experiments"),
    "nginx": ("nginx-light", "the real nginx beside its model"),
    "memcached": ("memcached", "the real memcached beside its model"),
    "node": ("nodejs", "the real Node beside its model"),
}
"""By command: Debian's package, and what it is for."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `remedy` is empty where nothing is to be done."""

    subject: str
    level: Level
    detail: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Look at everything. Takes a few seconds where a container engine is slow to answer."""
    # Elsewhere all that serves is in containers, and these would be about the wrong machine.
    of_linux = [sock_diag(), descriptors(), accept_queue(), *tools()] if LINUX else []
    return [
        kernel(),
        *wsl(),
        *codespace(),
        namespaces(),
        *apparmor_profile(),
        architecture(),
        engine(),
        compose(),
        control_groups(),
        image_disk(),
        python(),
        cores(),
        memory(),
        disk(),
        *sockets(),
        *ports(),
        *of_linux,
    ]


def kernel() -> Finding:
    """The servers need epoll, and EPOLLEXCLUSIVE for `nginx`."""
    release = platform.release()
    if not LINUX:
        code, theirs = engines.docker("info", "--format", "{{.KernelVersion}}")
        detail = f"{platform.system()} {release}"
        if code == 0 and theirs:
            return Finding("kernel", "ok", f"{detail}; containers run on the engine's Linux {theirs}")
        return Finding("kernel", "fail", f"{detail}: the servers need Linux", USE_CONTAINERS)
    if version(release) < KERNEL_NEEDED:
        return Finding("kernel", "fail", f"{release} has no EPOLLEXCLUSIVE", "use Linux 4.5 or newer")
    return Finding("kernel", "ok", release)


def wsl() -> Iterator[Finding]:
    """Yield what is doubtful in Windows' subsystem for Linux."""
    version = machines.wsl()
    if version == 1:
        remedy = "in PowerShell: wsl --set-version DISTRIBUTION 2"
        yield Finding("WSL", "fail", "WSL 1 is no Linux kernel: no namespaces, no queues to look at", remedy)
    if version == 2:
        detail = "WSL 2: times are doubtful: what Windows takes is not seen here, and clocks may be late after sleep"
        remedy = "measure while Windows is idle and awake; after sleep: `sudo hwclock -s`, or `wsl --shutdown`"
        yield Finding("WSL", "warn", detail, remedy)


def codespace() -> Iterator[Finding]:
    """Yield by which name the live page may be called in a codespace."""
    if not machines.in_codespace():
        return
    try:
        names = ", ".join(settings.console_names())
    except settings.SettingError as error:
        yield Finding("codespace", "fail", str(error), "correct the variable")
        return
    detail = f"the live page is called {names}; times are doubtful on shared processors"
    yield Finding("codespace", "warn", detail, "measure counts here, and times on a machine of your own")


def architecture() -> Finding:
    """Check the architecture that the images, and the wheels in them, are made for."""
    machine = platform.machine()
    if machine.lower() in ARCHITECTURES:
        return Finding("architecture", "ok", machine)
    return Finding(
        "architecture", "warn", f"no images for {machine}", f"stay with the local place: {settings.up_at('local')}"
    )


def namespaces() -> Finding:
    """Experiments run in namespaces of their own, made without root."""
    subject = "user namespaces"
    if not LINUX:
        return Finding(subject, "ok", "experiments make them in the `lab` container")
    try:
        outside.working_form()
    except outside.SandboxError as error:
        return Finding(subject, "warn", error.problem, error.remedy)
    return Finding(subject, "ok", "made one with a network of its own")


def apparmor_profile() -> Iterator[Finding]:
    """Yield whether experiments have the profile that they need where AppArmor restricts user namespaces."""
    if not apparmor.restricts():
        return
    subject, detail = "AppArmor", f"{apparmor.RESTRICTION}=1"
    if apparmor.is_loaded():
        yield Finding(subject, "ok", f"{detail}, and the profile {apparmor.PROFILE} is loaded")
    else:
        detail += ": experiments need the lab's profile, on the host and in containers"
        yield Finding(subject, "warn", detail, apparmor.remedy())


def engine() -> Finding:
    """A Docker engine is for the containers place; the local place does without."""
    subject = "container engine"
    try:
        host, version = engines.reach()
    except engines.EngineError as error:
        return Finding(subject, "warn", error.problem, error.remedy)
    return Finding(subject, "ok", f"Docker {version} at {host}")


def compose() -> Finding:
    """Compose v2 is a plugin of the docker command."""
    subject = "docker compose"
    try:
        return Finding(subject, "ok", engines.compose_version())
    except engines.EngineError as error:
        return Finding(subject, "warn", error.problem, error.remedy)


def control_groups() -> Finding:
    """The limits of containers, and their figures in `lab status`, are those of control groups."""
    subject = "cgroups"
    code, said = engines.docker("info", "--format", "{{.MemoryLimit}} {{.CgroupVersion}}")
    limited, _, theirs = said.partition(" ")
    if code == 0 and limited != "true":
        remedy = "give the kernel its memory controller: cgroup_enable=memory on its command line"
        return Finding(subject, "warn", "the engine cannot limit memory", remedy)
    if not LINUX:
        return engines_own(subject, code, f"version {theirs}")
    if (CGROUPS / "cgroup.controllers").exists():
        return Finding(subject, "ok", "version 2")
    if (CGROUPS / "memory").exists():
        return Finding(subject, "ok", "version 1, which engines will not know for ever")
    return Finding(subject, "warn", f"none at {CGROUPS}", "mount them: containers have no limits without")


def engines_own(subject: str, code: int, detail: str, problem: str = "") -> Finding:
    """Make a finding about the engine's machine, where that is another one; `code` is docker's."""
    if code:
        return Finding(subject, "warn", "no engine says", "see to the engine first")
    level: Level = "warn" if problem else "ok"
    return Finding(subject, level, f"{detail}, on the engine's own machine", problem)


def image_disk() -> Finding:
    """Room for the images, where the engine keeps them."""
    subject = "disk for images"
    code, folder = engines.docker("info", "--format", "{{.DockerRootDir}}")
    if code or not folder:
        return Finding(subject, "warn", "no engine says where it keeps them", "see to the engine first")
    if not Path(folder).exists():  # the engine is on another machine, or in a virtual one
        return Finding(subject, "ok", f"{folder}, on the engine's own machine")
    free = shutil.disk_usage(folder).free
    detail = f"{free / (1 << 30):.1f} GiB free at {folder}"
    if free < IMAGE_DISK_WANTED_BYTES:
        return Finding(subject, "warn", detail, "free some: `docker system df` shows what is old, `docker image prune`")
    return Finding(subject, "ok", detail)


def python() -> Finding:
    """The interpreter, and whether it has the GIL: thread workers share it where it is on."""
    build = "free-threaded build, " if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    detail = f"{platform.python_version()}, {build}GIL {'on' if models_have_gil() else 'off'}"
    if sys.version_info < PYTHON_NEEDED:
        return Finding("python", "fail", detail, "use Python 3.11 or newer: make PYTHON=python3.12 setup")
    return Finding("python", "ok", detail)


def cores() -> Finding:
    """Server and load on the same core measure each other."""
    if not LINUX:
        code, text = engines.docker("info", "--format", "{{.NCPU}}")
        short = text.isdecimal() and int(text) < CORES_WANTED
        return engines_own("cores", code, text, GIVE_IT_MORE if short else "")
    count = len(machines.cpus())
    if count < CORES_WANTED:
        return Finding("cores", "warn", f"{count}", "give the machine two: load and server disturb each other on one")
    return Finding("cores", "ok", f"{count}")


def memory() -> Finding:
    """Five servers with four workers each, Prometheus and Locust take about 1 GiB."""
    if not LINUX:
        code, text = engines.docker("info", "--format", "{{.MemTotal}}")
        total = int(text) if text.isdecimal() else 0
        problem = GIVE_IT_MORE if total < MEMORY_WANTED_BYTES else ""
        return engines_own("memory", code, f"{total / (1 << 30):.1f} GiB", problem)
    free = psutil.virtual_memory().available
    detail = f"{free / (1 << 30):.1f} GiB available"
    if free < MEMORY_WANTED_BYTES:
        return Finding("memory", "warn", detail, "free some, or lower `workers` in provisioning/group_vars/all.yml")
    return Finding("memory", "ok", detail)


def disk() -> Finding:
    """Room for the state folder, which must be this user's."""
    if problem := refusal():
        problem, _, remedy = problem.partition(": ")
        return Finding("state folder", "fail", problem, remedy)
    try:
        require_room(parts.STATE_DIR)
    except OSError as error:
        problem, _, remedy = explain(error).partition("; ")
        return Finding("disk", "fail", problem, remedy)
    folder = state_folder()
    free = shutil.disk_usage(folder).free
    detail = f"{free / (1 << 30):.1f} GiB free at {folder}"
    if free < DISK_WANTED_BYTES:
        return Finding("disk", "warn", detail, "free some, or set LAB_STATE_DIR to a folder on another disk")
    return Finding("disk", "ok", detail)


def state_folder() -> Path:
    """Return the state folder, or the folder that it will be made in."""
    return next(folder for folder in (parts.STATE_DIR, *parts.STATE_DIR.parents) if folder.exists())


def sockets() -> Iterator[Finding]:
    """Yield whether models and supervisord can have their sockets in the state folder: not on a drive of Windows.

    Nor in a folder that a virtual machine shares with its host. Nothing where no folder can be made there.
    """
    if not LINUX:
        return
    subject, folder = "Unix sockets", state_folder()
    with contextlib.suppress(OSError), tempfile.TemporaryDirectory(dir=folder, prefix=".doctor-") as made:
        descriptor = os.open(made, os.O_PATH | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX) as trial:
                trial.bind(f"/proc/self/fd/{descriptor}/s")
        except OSError as error:
            detail = f"{folder} can have none: {error.strerror}"
            yield Finding(subject, "fail", detail, "set LAB_STATE_DIR to a folder on a disk of Linux's own")
        else:
            yield Finding(subject, "ok", f"made one in {folder}")
        finally:
            os.close(descriptor)


def sock_diag() -> Finding:
    """The servers read their queues from the kernel's sock_diag: INET_DIAG, which a kernel may be built without."""
    everyone = struct.pack("=BBxxI48x", socket.AF_INET, socket.IPPROTO_TCP, 1 << LISTEN)
    request = struct.pack("=IHHII", 16 + len(everyone), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 0, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as netlink:
            netlink.settimeout(TRIAL_SECONDS)
            netlink.send(request + everyone)
            answer = netlink.recv(65536)
    except OSError as error:
        return Finding("sock_diag", "warn", f"the kernel shows no queues: {error.strerror or error}", USE_CONTAINERS)
    kind, code = struct.unpack_from("=4xH10xi", answer)
    if kind == NLMSG_ERROR:
        remedy = "as root: modprobe tcp_diag; where the kernel has none, queues and drops are shown as 0"
        return Finding("sock_diag", "warn", f"the kernel shows no queues: {os.strerror(-code)}", remedy)
    return Finding("sock_diag", "ok", "the kernel shows the queues of listeners")


def descriptors() -> Finding:
    """A server raises its own soft limit, but only as far as the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return Finding("file descriptors", "ok", "no limit")
    if hard < DESCRIPTORS_WANTED:
        remedy = f"raise it with `ulimit -Hn {DESCRIPTORS_WANTED}`, or expect fewer connections"
        return Finding("file descriptors", "warn", f"hard limit {hard}", remedy)
    return Finding("file descriptors", "ok", f"hard limit {hard}")


def accept_queue() -> Finding:
    """The kernel cuts every listener's backlog down to somaxconn without saying so."""
    subject, path = "accept queue", Path("/proc/sys/net/core/somaxconn")
    backlog = next(option.default for option in COMMON if option.name == "backlog")
    if not path.exists():
        return Finding(subject, "warn", "net.core.somaxconn cannot be read", USE_CONTAINERS)
    limit = int(path.read_text(encoding="ascii"))
    detail = f"net.core.somaxconn {limit}, default backlog {backlog}"
    if limit < backlog:
        return Finding(subject, "warn", detail, f"as root: sysctl net.core.somaxconn={backlog}")
    return Finding(subject, "ok", detail)


def ports() -> Iterator[Finding]:
    """The ports of all parts, each with its variable and its holder if there is a stranger on it."""
    try:
        found = conflicts(settings.PORTS)
    except settings.SettingError as error:
        yield Finding("ports", "fail", str(error), "correct the variable")
        return
    needed = {port.part for port in parts.ports()}
    for conflict in found:
        level: Level = "fail" if needed.intersection(port.part for port in conflict.ports) else "warn"
        yield Finding(conflict.subject, level, conflict.detail, conflict.remedy)
    if not found:
        yield Finding("ports", "ok", f"all {len(settings.PORTS)} are free or held by this stack")


def tools() -> Iterator[Finding]:
    """Programs that some commands use; nothing needs all of them."""
    for command, (package, purpose) in TOOLS.items():
        path = find(command)
        if path:
            yield Finding(command, "ok", path)
        else:
            yield Finding(command, "warn", f"missing; it is for {purpose}", f"apt-get install {package}")


def find(command: str) -> str | None:
    """The command's path; nginx and memcached may be in folders that only root's PATH has."""
    return shutil.which(command) or shutil.which(command, path="/usr/local/sbin:/usr/sbin:/sbin")


def version(release: str) -> tuple[int, int]:
    """(6, 1) of "6.1.0-18-amd64"."""
    major, minor = release.split(".")[:2]
    return int(major), int("".join(digit for digit in minor if digit.isdecimal()) or 0)


def attempt(*command: str) -> tuple[int, str]:
    """Run a command; its exit code and the last line that it said."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=TRIAL_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    lines = (result.stdout.strip() or result.stderr.strip()).splitlines()
    return result.returncode, lines[-1] if lines else ""
