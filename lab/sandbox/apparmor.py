"""AppArmor's restriction of user namespaces, and the lab's profile, which lifts it for what the lab starts.

Ubuntu has it from 24.04 on. A program without a profile that allows `userns` may still make a user namespace, but has
no rights in it:

    started                           its profile            rights in its user namespace
    by a user                         unconfined             none
    by root, on the host              unconfined             all: the restriction is for those who have none outside
    in a container, as usual          docker-default         none
      with `apparmor=unconfined`      unconfined             none
    by `aa-exec -p accept-lab`        accept-lab             all
    in a container, with
      `apparmor=accept-lab`           accept-lab             all

Only the kernel of Ubuntu tells whether this works, so the tests pretend one: a folder in the place of `ROOT`.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

from lab.settings import CHECKOUT

ROOT = Path("/")
PROFILE = "accept-lab"
FILE = CHECKOUT / "provisioning" / "apparmor" / PROFILE
WITH_PROFILE = ("aa-exec", "-p", PROFILE, "--")
RESTRICTION = "kernel.apparmor_restrict_unprivileged_userns"
STACKING = "kernel.apparmor_restrict_unprivileged_unconfined"
"""With 1, a profile that a user takes by `aa-exec` is added to what he has, and gives no rights."""
TRIAL_SECONDS = 10.0


def restricts() -> bool:
    """Return whether this kernel restricts the user namespaces of programs without a profile."""
    return sysctl(RESTRICTION) == "1" and not has_profile()


def has_profile() -> bool:
    """Return whether this very process has the lab's profile, as in a container that was started with it."""
    return (_read("proc/self/attr/current") or "").partition(" ")[0] == PROFILE


def is_loaded() -> bool:
    """Return whether the kernel has the lab's profile."""
    profiles = _read("sys/kernel/security/apparmor/profiles")
    if profiles is not None:
        return any(line.partition(" ")[0] == PROFILE for line in profiles.splitlines())
    # The list is for root; whoever may not read it tries.
    if not shutil.which(WITH_PROFILE[0]):
        return False
    try:
        tried = subprocess.run([*WITH_PROFILE, "true"], check=False, capture_output=True, timeout=TRIAL_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return tried.returncode == 0


def remedy() -> str:
    """Return what to do where user namespaces are restricted and none can be had."""
    if not is_loaded():
        # In a container the file is not there; the advice is for the checkout then.
        file = FILE if FILE.exists() else FILE.relative_to(CHECKOUT)
        there = f"/etc/apparmor.d/{PROFILE}"
        return f"load the lab's profile: sudo cp {shlex.quote(str(file))} {there} && sudo apparmor_parser -r {there}"
    if not shutil.which(WITH_PROFILE[0]):
        return "install the package apparmor, which has aa-exec"
    if sysctl(STACKING) == "1":
        return f"use a container: LAB_APPARMOR={PROFILE} docker compose run --rm --no-deps lab run NAME"
    return f"see what the kernel says of it: journalctl --dmesg --grep 'profile=.*{PROFILE}'"


def sysctl(name: str) -> str | None:
    """Return the value of a kernel parameter; None where there is none of that name."""
    return _read(f"proc/sys/{name.replace('.', '/')}")


def _read(path: str) -> str | None:
    try:
        return (ROOT / path).read_text(encoding="utf-8", errors="replace").strip("\n\0 ")
    except OSError:
        return None
