"""Starts a command in a sandbox that nothing outlives.

    lab ── unshare ── init ── the command: root of its own user namespace, in a process namespace of its own
     │        │
     │        └─ dies: `--kill-child` has asked the kernel to kill process 1, and with it goes all the rest
     └─ dies: PR_SET_PDEATHSIG has asked the kernel to kill unshare

Both links are needed: `--kill-child` alone does not see `lab` die. With the last process go the network
namespaces with their interfaces, counters and sysctls, and the tmpfs that holds every file. No root is needed,
and the host's network is never touched.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from lab import machines
from lab.peers.process import die_with
from lab.sandbox import apparmor
from lab.settings import CHECKOUT, STATE_DIR

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NAMESPACES = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
FORMS = (("unshare", "--user", "--map-root-user", *NAMESPACES), ("unshare", *NAMESPACES))
"""With a user namespace, which needs no right at all; or without, for a container with SYS_ADMIN and NET_ADMIN.

Where AppArmor restricts user namespaces, the first is tried with the lab's profile before (`forms`)."""
INIT = ("sh", "-c", '"$@"; exit $?', "init")
"""Process 1, which the kernel makes the parent of all orphans: a shell that waits for its command buries them, too."""
PROBE_SECONDS = 10.0
TEMPORARY = STATE_DIR / "sandbox"
"""Folder where each sandbox mounts a tmpfs that only it can see; outside, the folder stays empty."""
FORBIDDING = (
    ("kernel.unprivileged_userns_clone", "0", "1"),  # Debian
    ("user.max_user_namespaces", "0", "15000"),  # hardened machines of any kind
)
"""Sysctls, what forbids user namespaces to all but root, and what allows them."""
CONTAINER = "use the container: docker compose run --rm --no-deps lab run NAME"


class SandboxError(Exception):
    """There can be no sandbox here: what the problem is, and the ways out."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}: {remedy}")
        self.problem = problem
        self.remedy = remedy


@contextlib.contextmanager
def launched(command: Sequence[str], errors: Path) -> Iterator[subprocess.Popen[str]]:
    """`command` in a sandbox of its own, its standard output a pipe, its errors in a file. Raises SandboxError.

    Called by a thread that lives as long as the sandbox: the kernel's signal is for the death of that thread.
    At the end, however it comes, everything inside is killed.
    """
    unshare = working_form()
    TEMPORARY.mkdir(parents=True, exist_ok=True)
    parent = os.getpid()
    with errors.open("wb") as error_file:
        process = subprocess.Popen(
            [*unshare, *INIT, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=error_file,
            text=True,
            cwd=CHECKOUT,
            start_new_session=True,  # Ctrl-C is for `lab` alone, which then ends this
            preexec_fn=lambda: die_with(parent, signal.SIGKILL),
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def working_form() -> tuple[str, ...]:
    """The `unshare` that works here, found by trying it rather than by reading settings. Raises SandboxError."""
    if not machines.LINUX:
        raise SandboxError("network namespaces are Linux's", CONTAINER)
    missing = [tool for tool in ("unshare", "ip") if not shutil.which(tool)]
    if missing:
        raise SandboxError(f"`{missing[0]}` is not installed", "install the packages util-linux and iproute2")
    refusals = []
    for form in forms():
        try:
            tried = subprocess.run([*form, "true"], check=False, capture_output=True, text=True, timeout=PROBE_SECONDS)
        except subprocess.TimeoutExpired:
            raise SandboxError(f"`{' '.join(form)} true` hangs", "try again when this machine is less busy") from None
        if not tried.returncode:
            return form
        refusals.append(tried.stderr.strip())
    why = refusals[0] or "no reason given"
    if apparmor.restricts():
        raise SandboxError(f"AppArmor restricts user namespaces here ({why})", apparmor.remedy())
    raise SandboxError(
        f"user namespaces are forbidden here ({why})", f"either {CONTAINER}, or allow them as root: {_how_to_allow()}"
    )


def forms() -> list[tuple[str, ...]]:
    """Commands that may make a sandbox here, the likeliest first."""
    if apparmor.restricts() and shutil.which(apparmor.WITH_PROFILE[0]):
        return [(*apparmor.WITH_PROFILE, *FORMS[0]), *FORMS]
    return [*FORMS]


def _how_to_allow() -> str:
    """The sysctls that forbid them here, or, where none says so, those that may."""
    forbidding = [f"{name}={good}" for name, bad, good in FORBIDDING if apparmor.sysctl(name) == bad]
    if forbidding:
        return f"sysctl -w {' '.join(forbidding)}"
    return " or ".join(f"sysctl -w {name}={good}" for name, _, good in FORBIDDING)
