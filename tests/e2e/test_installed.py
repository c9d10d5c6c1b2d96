"""The wheel, in a virtual environment and a folder of its own, without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support import release
from support.package_index import CONSTRAINTS, uv

from lab.settings import CHECKOUT
from lab.stack import bundle

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return release.build(tmp_path_factory.mktemp("dist"))


def install(wheel: Path, folder: Path, extra: str = "") -> Path:
    """A virtual environment with the wheel; its `lab`. By uv, which takes a tenth of pip's time."""
    python = folder / ".venv/bin/python"
    for words in (
        ["venv", "--quiet", "--python", sys.executable, folder / ".venv"],
        ["pip", "install", "--quiet", "--python", python, "--constraint", CONSTRAINTS,
         f"accept-lab{extra} @ {wheel.as_uri()}"],
    ):  # fmt: skip
        done = uv(*words)
        assert done.returncode == 0, done.stderr
    return folder / ".venv/bin/lab"


def run(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=release.users_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_wheel_without_the_extra_says_what_to_install(wheel, tmp_path):
    lab = install(wheel, tmp_path)
    for words in (["up"], ["--help"], []):
        done = run(lab, *words, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert "pip install 'accept-lab[lab]'" in line


def test_servers_of_the_wheel_need_no_extra(wheel, tmp_path):
    install(wheel, tmp_path)
    done = run(tmp_path / ".venv/bin/python", "-m", "services", "nginx", "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_wheel_brings_the_stack_up(wheel, tmp_path):
    install(wheel, tmp_path, "[lab]")
    release.try_out(tmp_path)


def test_hosts_get_the_same_code_from_the_wheel(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        "from lab import settings; from lab.stack import bundle; import hashlib; assert settings.INSTALLED;"
        "[print(hashlib.sha256(bundle.pack(bundle.contents(kind))).hexdigest()) for kind in bundle.CODE]"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    import hashlib

    ours = [hashlib.sha256(bundle.pack(bundle.contents(kind))).hexdigest() for kind in bundle.CODE]
    assert done.stdout.split() == ours


def test_images_are_built_from_the_same_files_as_in_a_checkout(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    code = "import sys; from pathlib import Path; from lab.stack import images; images.lay_out(Path(sys.argv[1]))"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed"), "LAB_STATE_DIR": str(tmp_path / "state")}
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "context"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = {path.relative_to(tmp_path / "context") for path in (tmp_path / "context").rglob("*") if path.is_file()}
    listed = subprocess.run(
        ["git", "-C", str(CHECKOUT), "ls-files", "-co", "--exclude-standard", "services", "lab", "loadtests", "Dockerfile", "pyproject.toml", "constraints.txt"],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert found == {Path(name) for name in listed}
    assert all((tmp_path / "context" / name).read_bytes() == (CHECKOUT / name).read_bytes() for name in found)
