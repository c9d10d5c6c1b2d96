"""The stack's own images: Compose builds them from the Dockerfile, layer by layer only what has changed.

`python -m lab.stack.images` is a step of `lab up`; it prints a line for each image that became another one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lab import settings
from lab.stack import engine, parts

BUILT_BY = ("nodejs", "locust")
"""A service of each image; the others share theirs."""
BUILD_LOG = parts.LOG_DIR / "build.log"
CONTEXT = parts.STATE_DIR / "containers" / "context"
"""Build context where the lab is installed: its code and its Dockerfile lie in different folders there."""
UNOBTAINABLE = re.compile(
    r"(pull access denied|manifest .*unknown|no such host|failed to resolve|dial tcp|not found: |TLS handshake|"
    r"toomanyrequests|unauthorized|i/o timeout)[^\n]*",
    re.IGNORECASE,
)
"""Words of engines when the base image is not there and cannot be pulled."""


def build() -> tuple[int, list[str]]:
    """Build both images. 0 and a line for each that changed, or the exit code of the build and why it failed."""
    if settings.INSTALLED:
        lay_out(CONTEXT)
        os.environ["LAB_BUILD_CONTEXT"] = str(CONTEXT)
    names = compose("config", "--images", *BUILT_BY).stdout.split()
    before = {name: identity(name) for name in names}
    # One after the other: at once, engines without BuildKit would make what the two have in common twice.
    for service in BUILT_BY:
        done = compose("build", service)
        if done.returncode:
            BUILD_LOG.parent.mkdir(parents=True, exist_ok=True)
            BUILD_LOG.write_text(done.stdout + done.stderr, encoding="utf-8")
            return done.returncode, [why(done.stdout + done.stderr)]
    return 0, [f"built {name}" for name in sorted(set(names)) if identity(name) != before[name]]


def lay_out(folder: Path) -> None:
    """Make the folder what `COPY` of the Dockerfile reads, as a checkout is."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("services", "lab", "loadtests"):
        ignored = shutil.ignore_patterns("__pycache__", settings.CARRIED.name)
        shutil.copytree(settings.CODE / name, folder / name, ignore=ignored)
    for name in ("Dockerfile", "pyproject.toml", "constraints.txt"):
        shutil.copy(settings.CHECKOUT / name, folder / name)


def compose(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Compose on the stack's file."""
    return docker("compose", "--project-directory", str(settings.CHECKOUT), *arguments)


def identity(name: str) -> str:
    """The image that has this name; empty if none has."""
    return docker("image", "inspect", "--format", "{{.Id}}", name).stdout.strip()


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the docker command, however long it takes."""
    return subprocess.run(
        ["docker", *arguments], check=False, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL
    )


def why(output: str) -> str:
    """One line that says why the build failed, and what to do."""
    base = settings.variable("LAB_PYTHON_IMAGE")
    if base and (found := UNOBTAINABLE.search(output)):
        return (
            f"the base image {base} is not here and cannot be pulled ({found[0].strip()}): "
            "set LAB_PYTHON_IMAGE to a Debian-like image with Python 3.11 or newer that can be had"
        )
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return f"the image cannot be built: {lines[-1] if lines else 'no word why'}; all of it is in {BUILD_LOG}"


def main(_: Sequence[str] | None = None) -> int:
    """Build, and say what changed or why not."""
    try:
        os.environ["DOCKER_HOST"] = engine.address()
    except engine.EngineError as error:
        print(error)
        return 2
    code, lines = build()
    if lines:
        print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
