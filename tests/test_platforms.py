"""Every list of packages, at its pinned versions, is to be had as wheels on every machine and Python that the lab is for.

The image takes wheels only, so that nothing is compiled: one package without a wheel for arm64 breaks it there, and no test
on x86-64 would notice. uv resolves for machines that it does not run on.
"""

from __future__ import annotations

import tomllib
from itertools import product

import pytest
from support.package_index import CONSTRAINTS, uv

from lab.settings import CHECKOUT

PLATFORMS = ("x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "aarch64-apple-darwin")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = tuple(PROJECT["optional-dependencies"])
LISTS = ("", *EXTRAS)
PINS = {line.lower() for line in CONSTRAINTS.read_text(encoding="utf-8").split()}
"""The image `services` has the list without a name, the image `lab` that and `tools`, as the Dockerfile says."""


def resolve(extra: str, platform: str, python: str) -> tuple[str, set[str]]:
    """Return what uv says where it finds no set of wheels, and the set where it does."""
    extras = ["--extra", extra] if extra else []
    done = uv(
        "pip", "compile", CHECKOUT / "pyproject.toml", *extras, "--constraint", CONSTRAINTS, "--no-header", "--no-annotate",
        "--python-platform", platform, "--python-version", python, "--only-binary", ":all:",
    )  # fmt: skip
    return (f"[{extra}]: {done.stderr}", set()) if done.returncode else ("", set(done.stdout.split()))


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("platform", "python"), product(PLATFORMS, PYTHONS))
def test_every_list_has_wheels_of_pinned_versions(platform, python):
    found = [resolve(extra, platform, python) for extra in LISTS]
    assert "".join(problem for problem, _ in found) == ""
    assert set().union(*(packages for _, packages in found)) - PINS == set()


def test_package_without_a_wheel_is_found():
    done = uv(
        "pip", "compile", "--quiet", "-", "--python-platform", "aarch64-unknown-linux-gnu", "--python-version", "3.13",
        "--only-binary", ":all:", input="hdrhistogram==0.10.3\n",
    )  # fmt: skip
    assert done.returncode == 1
    assert "no wheels" in done.stderr
