"""Build step of the wheel: it carries what else of a checkout `lab up` needs, where lab/settings.py finds it."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

CARRIED = (
    "Dockerfile",
    "constraints.txt",
    "dashboards",
    "docker-compose.yml",
    "docs/experiments/results",  # `lab list` sets what was measured beside what is often said
    "loadtests/locustfile.py",  # named by its path in provisioning/roles/locust and docker-compose.yml
    "provisioning",
    "pyproject.toml",  # lab/stack/bundle.py reads there what a host needs
)
"""Files and folders of the checkout, which are found under the same names in `lab/checkout`."""


class BuildWithCheckout(build_py):
    """Build of the packages, and of the folder beside them."""

    def run(self) -> None:
        """Copy the packages, then the rest; an editable installation has its checkout."""
        super().run()
        if not self.editable_mode:
            for name in CARRIED:
                copy(Path(name), Path(self.build_lib, "lab", "checkout", name))


def copy(source: Path, target: Path) -> None:
    """Copy a file or a folder, without what running it has left there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        left = shutil.ignore_patterns("__pycache__", ".ansible")
        shutil.copytree(source, target, ignore=left, dirs_exist_ok=True)
    else:
        shutil.copy(source, target)


setup(cmdclass={"build_py": BuildWithCheckout})
