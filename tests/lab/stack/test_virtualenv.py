"""The virtual environment: which interpreters it is refused for, and what may be around it."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from lab.settings import CHECKOUT

PIP = """#!{python}
import os, pathlib, sys, time
if sys.argv[1:3] == ["-m", "venv"]:
    pathlib.Path(".venv/bin").mkdir(parents=True)
    os.symlink(sys.argv[0], ".venv/bin/python")
elif "pip_install.py" in str(sys.argv):
    pathlib.Path(".venv/at-work").mkdir()  # fails where another is at work
    time.sleep(0.3)
    pathlib.Path(".venv/at-work").rmdir()
    print("installed")
elif "pip" not in sys.argv:
    os.execv("{python}", ["{python}", *sys.argv[1:]])
elif not os.path.exists(".venv"):
    sys.exit(1)
"""
"""An interpreter that is one, but for the two steps that take long."""


@pytest.mark.parametrize(
    ("unlike", "what", "instead"),
    [
        ("version_info", "is too old, 3.11 is needed", "make PYTHON=/path/to/a/newer/python"),
        ("Py_GIL_DISABLED", "has no GIL", "make PYTHON=/path/to/one/with/the/GIL"),
    ],
)
def test_interpreter_that_will_not_do_is_refused(tmp_path, unlike, what, instead):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncase "$*" in *{unlike}*) exit 1 ;; esac\n')
    python.chmod(0o755)
    script = CHECKOUT / "provisioning" / "virtualenv.sh"
    done = subprocess.run(["sh", script, python, "lab"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("setup: ")
    assert what in line
    assert instead in line
    assert list(tmp_path.iterdir()) == [python]


def settings_kept(tmp_path, listed: str, **variables: str) -> dict[str, str]:
    """The environment that pip installs in, where `pip config list` prints this."""
    fake, asked = tmp_path / "pip.py", tmp_path / "asked.json"
    fake.write_text(
        "import json, os, pathlib, sys\n"
        f"if 'config' in sys.argv:\n print({listed!r})\n"
        f"else:\n pathlib.Path({str(asked)!r}).write_text(json.dumps([sys.argv[1:], dict(os.environ)]))\n"
    )
    done = subprocess.run(
        [sys.executable, CHECKOUT / "provisioning" / "pip_install.py", "-e", "."], capture_output=True, text=True,
        env={**{name: value for name, value in os.environ.items() if not name.startswith("PIP_")}, **variables},
        cwd=tmp_path,  # where `python -m pip` finds the fake
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    arguments, environment = json.loads(asked.read_text())
    assert arguments[0] == "--disable-pip-version-check"
    assert arguments[-2:] == ["-e", "."]
    return {name: value for name, value in environment.items() if name.startswith("PIP_")}


def test_pip_keeps_where_packages_come_from_and_drops_where_they_go(tmp_path):
    listed = """\
:env:.index-url='http://env/simple'
:env:.user='1'
global.index-url='http://global/simple'
global.constraint='/etc/constraints.txt'
global.trusted-host='one\\ntwo'
install.target='/elsewhere'
install.prefix='/usr'
install.find-links='/wheels'
"""
    variables = {"PIP_USER": "1", "PIP_TARGET": "/x", "PIP_PREFIX": "/y", "PIP_INDEX_URL": "http://env/simple"}
    assert settings_kept(tmp_path, listed, **variables) == {
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_INDEX_URL": "http://env/simple",
        "PIP_TRUSTED_HOST": "one two",
        "PIP_FIND_LINKS": "/wheels",
    }


@pytest.fixture
def checkout(tmp_path):
    """A checkout with nothing but what the setup reads."""
    for name in ("pyproject.toml", "constraints.txt", "provisioning"):
        source = CHECKOUT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    python = tmp_path / "python"
    python.write_text(PIP.format(python=sys.executable))
    python.chmod(0o755)
    return tmp_path


def test_two_setups_at_once_are_one_and_a_wait(checkout):
    script = ["sh", "provisioning/virtualenv.sh", checkout / "python", "lab"]
    both = [subprocess.Popen(script, cwd=checkout, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=30)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(text.count("installed") for text in said) == [0, 1]
    assert sorted("waiting for it" in text for text in said) == [False, True]
    assert (checkout / ".venv" / "lab.stamp").exists()


def test_setup_that_is_newer_than_what_it_depends_on_does_nothing(checkout):
    script = ["sh", "provisioning/virtualenv.sh", checkout / "python", "lab"]
    for expected in (1, 0):
        done = subprocess.run(script, cwd=checkout, capture_output=True, text=True, check=True)
        assert done.stdout.count("installed") == expected
    os.utime(checkout / "constraints.txt")
    os.utime(checkout / ".venv" / "lab.stamp", (1, 1))
    assert "installed" in subprocess.run(script, cwd=checkout, capture_output=True, text=True, check=True).stdout


def test_checkout_of_somebody_else_is_refused(checkout, require_tool):
    if os.geteuid():
        pytest.skip("needs root, to give a folder to somebody else")
    (checkout / ".venv").mkdir()
    os.chown(checkout / ".venv", 65534, 65534)
    done = subprocess.run(
        [require_tool("setpriv"), "--bounding-set=-dac_override,-dac_read_search", "sh", "provisioning/virtualenv.sh",
         sys.executable, "lab"], cwd=checkout, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"{checkout}/.venv belongs to nobody" in line
