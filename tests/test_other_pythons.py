"""Unit tests under other Pythons than this one: Debian trixie's 3.13, and 3.14 with and without a GIL where PATH has it.

trixie's is in the base image that the tests of the containers place use (support/engine.py): a root file system, entered by
chroot in a mount namespace, where the checkout is mounted and cannot be written to.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support import engine
from support.package_index import CONSTRAINTS, uv
from support.tools import require_tool

from lab.settings import CHECKOUT

SERVERS = (
    *(f"tests/services/{folder}" for folder in ("apps", "metrics", "net", "protocols")),
    # Long ones, of which nothing depends on the Python: constant memory, a million inputs, memcached's own clients.
    *(f"--ignore=tests/services/protocols/test_{name}.py" for name in ("fuzz", "memcache_gets", "memcache_streams")),
)
LAB = (
    *(f"tests/lab/harness/test_{name}.py" for name in ("controls", "trials", "verdict")),
    *(f"tests/lab/measure/test_{name}.py" for name in ("latencies", "statistics", "student", "summary")),
    "tests/lab/report/test_figures.py",
    "tests/loadtests/test_histogram.py",
)
"""Tests that start no stack, no sandbox and no tool of the system."""
TESTING = ("hypothesis", "httpx", "psutil", "pymemcache", "pytest", "pytest-timeout")
NOT_HERE = ("CI", "PYTEST_", "LAB_", "PYTHON", "VIRTUAL_ENV", "MAKE")
"""Variables by which we, or what is above us, would steer the tests in there."""
SECONDS = 280
ENTER = """
mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev"
mount --bind "$2" "$1/mnt" && mount -o remount,bind,ro "$1/mnt"
root=$1 && shift 2 && exec chroot "$root" "$@"
"""


def packages(target: list[object], extras: tuple[str, ...] = ("tools",)) -> None:
    """Install what the tests import, as wheels, where `target` says."""
    done = uv(
        "pip", "install", "--quiet", *target, "--only-binary", ":all:", "--constraint", CONSTRAINTS,
        "--requirements", CHECKOUT / "pyproject.toml", *(word for extra in extras for word in ("--extra", extra)), *TESTING,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def run_tests(command: list[object], tests: tuple[str, ...], folder: Path, **variables: str) -> str:
    """Run tests by that Python; what it is, and a summary."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith(NOT_HERE)}
    done = subprocess.run(
        [*map(str, command), "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        cwd=CHECKOUT, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=SECONDS,
        env={**outer, "TMPDIR": str(folder), "HYPOTHESIS_STORAGE_DIRECTORY": f"{folder}/hypothesis",
             "LAB_STATE_DIR": f"{folder}/state", "PYTHONDONTWRITEBYTECODE": "1", **variables},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture
def trixie(tmp_path) -> Path:
    """A root file system of its own."""
    if os.getuid() != 0:
        pytest.skip("chroot needs root")
    require_tool("debootstrap")
    root = tmp_path / "root"
    root.mkdir()
    subprocess.run(["tar", "-C", root, "-xf", engine.bare_debian()], check=True)
    yield root
    shutil.rmtree(root)


@pytest.mark.timeout(400)
def test_unit_tests_pass_with_the_python_of_trixie(trixie):
    packages(["--target", trixie / "packages", "--python-version", "3.13"])
    enter = ["unshare", "--mount", "sh", "-ec", ENTER, "enter", trixie, CHECKOUT]
    python = [*enter, "env", "-C", "/mnt", "python3"]
    done = subprocess.run([*python, "--version"], capture_output=True, text=True)
    assert done.stdout.startswith("Python 3.13"), done.stderr
    run_tests(python, (*SERVERS, *LAB), Path("/tmp"), PYTHONPATH="/mnt:/packages")


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", ["python3.14", "python3.14t"])
def test_unit_tests_pass_with_a_newer_python(name, tmp_path):
    if not shutil.which(name):
        pytest.skip(f"there is no {name} on PATH")
    python = tmp_path / "venv/bin/python"
    assert uv("venv", "--quiet", "--python", shutil.which(name), tmp_path / "venv").returncode == 0
    # NiceGUI and Locust cannot be installed where there is no GIL.
    free_threaded = name.endswith("t")
    packages(["--python", python], () if free_threaded else ("tools",))
    (tmp_path / "tmp").mkdir()
    tests = SERVERS if free_threaded else (*SERVERS, *LAB)
    run_tests([python], tests, tmp_path / "tmp", PYTHONPATH=str(CHECKOUT))
