"""Every list of packages, at its pinned versions, is to be had as wheels on every machine and Python that the lab is for.

The image takes wheels only, so that nothing is compiled: one package without a wheel for arm64 breaks it there, and no test
on x86-64 would notice. uv resolves for machines that it does not run on: all lists at once, since with pinned versions a
list resolves where their union does.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name
from support.package_index import CONSTRAINTS, uv

from lab.settings import CHECKOUT

PLATFORMS = ("x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "aarch64-apple-darwin")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
EVERYWHERE = tuple(product(PLATFORMS, PYTHONS))
EXCEPTIONS = {
    # In `bench` alone, which is in no image: pip compiles it, in seconds.
    "gunicorn-h1c": EVERYWHERE,
    # Of Locust. Who has macOS takes a newer Python there, or the containers.
    "gevent": (("aarch64-apple-darwin", "3.11"),),
}
"""Packages that have no wheel, and where."""
PINS = {canonicalize_name(line.partition("==")[0]) for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines()}
SECONDS = 240


def resolve(platform: str, python: str, folder: Path, *more: object) -> tuple[str, set[str]]:
    """Return what uv says where it finds no set of wheels, and the names of the set where it does."""
    left_out = folder / f"left-out-{platform}-{python}.txt"
    names = [name for name, where in EXCEPTIONS.items() if (platform, python) in where]
    left_out.write_text("".join(f"{name} ; python_version < '0'\n" for name in names))
    done = uv(
        "pip", "compile", CHECKOUT / "pyproject.toml", "--all-extras", "--constraint", CONSTRAINTS, "--overrides", left_out,
        "--python-platform", platform, "--python-version", python, "--only-binary", ":all:",
        "--no-header", "--no-annotate", *more, timeout=SECONDS,
    )  # fmt: skip
    names = {line.partition("==")[0] for line in done.stdout.splitlines() if "==" in line}
    return (done.stderr, set()) if done.returncode else ("", names)


def remembered_or_asked(where: tuple[str, str], folder: Path) -> tuple[str, set[str]]:
    """Return the same, from uv's cache if it has all: the wheels of a version stay, and asking takes ten times as long."""
    found = resolve(*where, folder, "--offline")
    return resolve(*where, folder) if found[0] else found


@pytest.fixture(scope="module")
def resolved(tmp_path_factory) -> dict[tuple[str, str], tuple[str, set[str]]]:
    folder = tmp_path_factory.mktemp("left-out")
    with ThreadPoolExecutor(4) as pool:  # nearly all of the time is the index's
        return dict(
            zip(EVERYWHERE, pool.map(lambda where: remembered_or_asked(where, folder), EVERYWHERE), strict=True)
        )


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("where", EVERYWHERE, ids=" ".join)
def test_every_list_has_wheels_of_pinned_versions(resolved, where):
    problem, names = resolved[where]
    assert problem == ""
    assert names - PINS == set(), "pin these in constraints.txt"


def test_package_without_a_wheel_is_found():
    done = uv(
        "pip", "compile", "-", "--python-platform", "aarch64-unknown-linux-gnu", "--python-version", "3.13",
        "--only-binary", ":all:", input="hdrhistogram==0.10.3\n",
    )  # fmt: skip
    assert done.returncode == 1
    assert "no usable wheels" in done.stderr
