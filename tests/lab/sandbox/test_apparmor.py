"""A kernel that restricts user namespaces, pretended: its files in a folder, `aa-exec` and `unshare` as scripts.

Whether the profile does what it says, only a kernel of Ubuntu can tell; that it is one, tests/e2e/test_containers.py.
"""

from __future__ import annotations

import platform
import re

import pytest

from lab.sandbox import apparmor, outside
from lab.stack import doctor, engine

AA_EXEC = """#!/bin/sh
[ "$1 $2 $3" = "-p accept-lab --" ] && [ -e ROOT/loaded ] || { echo "profile '$2' does not exist" >&2; exit 1; }
shift 3
PROFILE=accept-lab exec "$@"
"""
UNSHARE = """#!/bin/sh
[ "$PROFILE" = accept-lab ] || { echo "unshare: write failed /proc/self/uid_map: Operation not permitted" >&2; exit 1; }
"""


class Ubuntu:
    """A machine that restricts user namespaces, seen by an ordinary user."""

    def __init__(self, root):
        self.root = root
        self.set(apparmor.RESTRICTION, "1")
        for name, text in (("aa-exec", AA_EXEC), ("unshare", UNSHARE), ("ip", "#!/bin/sh\n")):
            script = root / "bin" / name
            script.parent.mkdir(exist_ok=True)
            script.write_text(text.replace("ROOT", str(root)))
            script.chmod(0o755)

    def set(self, name, value):
        self.write(f"proc/sys/{name.replace('.', '/')}", f"{value}\n")

    def write(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def load(self):
        self.write("loaded", "")


@pytest.fixture
def ubuntu(tmp_path, monkeypatch):
    machine = Ubuntu(tmp_path)
    monkeypatch.setattr(apparmor, "ROOT", tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.delenv("LAB_APPARMOR", raising=False)
    return machine


def test_sandbox_is_made_with_the_profile_where_it_is_loaded(ubuntu):
    ubuntu.load()
    assert outside.working_form() == ("aa-exec", "-p", "accept-lab", "--", *outside.FORMS[0])


def test_sandbox_without_the_profile_is_told_how_to_load_it(ubuntu):
    with pytest.raises(outside.SandboxError, match="AppArmor restricts user namespaces") as caught:
        outside.working_form()
    copied, loaded = re.search(r"sudo cp (\S+) (\S+) && sudo apparmor_parser -r", caught.value.remedy).groups()
    assert (copied, loaded) == (str(apparmor.FILE), "/etc/apparmor.d/accept-lab")
    assert "profile accept-lab " in apparmor.FILE.read_text()


def test_machine_that_does_not_restrict_does_without(ubuntu):
    ubuntu.load()
    ubuntu.set(apparmor.RESTRICTION, "0")
    assert outside.forms() == list(outside.FORMS)
    assert list(doctor.apparmor_profile()) == []


def test_capabilities_do_where_there_is_no_profile(ubuntu, monkeypatch):
    monkeypatch.setattr(outside, "FORMS", (("unshare",), ("true",)))
    assert outside.working_form() == ("true",)


def test_container_that_has_the_profile_needs_no_other(ubuntu):
    ubuntu.write("proc/self/attr/current", "accept-lab (unconfined)\n")
    assert outside.forms() == list(outside.FORMS)


def test_profile_that_gives_no_rights_to_users_is_for_containers(ubuntu, monkeypatch):
    ubuntu.load()
    ubuntu.set(apparmor.STACKING, "1")
    monkeypatch.setattr(outside, "FORMS", (("false",),))
    with pytest.raises(outside.SandboxError, match="LAB_APPARMOR=accept-lab docker compose run"):
        outside.working_form()


@pytest.mark.parametrize(
    ("profiles", "level"),
    [("docker-default (enforce)\naccept-lab (unconfined)\n", "ok"), ("accept-lab2 (enforce)\n", "warn")],
)
def test_doctor_finds_the_profile_in_the_list_that_root_reads(ubuntu, profiles, level):
    ubuntu.write("sys/kernel/security/apparmor/profiles", profiles)
    (finding,) = doctor.apparmor_profile()
    assert (finding.level, "apparmor_parser" in finding.remedy) == (level, level == "warn")


def test_doctor_finds_the_profile_as_a_user(ubuntu):
    (before,) = doctor.apparmor_profile()
    ubuntu.load()
    (after,) = doctor.apparmor_profile()
    assert (before.level, after.level) == ("warn", "ok")


@pytest.mark.parametrize(
    ("loaded", "said", "profile"),
    [
        (True, f"{platform.release()} [name=apparmor name=seccomp,profile=builtin]", "accept-lab"),
        (False, f"{platform.release()} [name=apparmor]", "unconfined"),
        (True, "6.10.14-linuxkit [name=apparmor]", "unconfined"),  # in a virtual machine
        (True, f"{platform.release()} [name=seccomp,profile=builtin name=rootless]", "unconfined"),
    ],
)
def test_containers_get_the_profile_where_their_kernel_has_it(ubuntu, monkeypatch, loaded, said, profile):
    if loaded:
        ubuntu.load()
    monkeypatch.setattr(engine, "docker", lambda *_: (0, said))
    assert engine.apparmor_profile() == profile


def test_profile_that_is_given_wins(ubuntu, monkeypatch):
    monkeypatch.setenv("LAB_APPARMOR", "mine")
    assert engine.apparmor_profile() == "mine"
