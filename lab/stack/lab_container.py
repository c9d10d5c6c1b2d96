"""Commands of ours in the `lab` container, beside the models: load that must not pass Docker's proxy, experiments on
machines that have no namespaces of their own to give."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from rich.console import Console

from lab import settings
from lab.stack import engine

if TYPE_CHECKING:
    from collections.abc import Mapping


def run(*words: str, mounts: Mapping[str, str] | None = None) -> int:
    """Run `lab WORDS` in there, its input and output ours, with files of ours to read; return its exit code."""
    compose = ["docker", "compose", "--project-directory", str(settings.CHECKOUT), "--progress", "quiet"]
    terminal = [] if sys.stdin.isatty() and sys.stdout.isatty() else ["--no-TTY"]
    # Under its alias Prometheus finds it.
    options = ["--rm", "--no-deps", "--use-aliases", *terminal, "--env", f"COLUMNS={Console().width}"]
    options += [word for ours, theirs in (mounts or {}).items() for word in ("--volume", f"{ours}:{theirs}:ro")]
    environment = {**os.environ, "LAB_APPARMOR": engine.apparmor_profile()}
    return subprocess.run([*compose, "run", *options, "lab", *words], check=False, env=environment).returncode
