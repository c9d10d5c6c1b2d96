"""uv, asked as pip is: where this machine's pip has another index or certificate, uv has the same."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

from support.tools import require_tool

from lab.settings import CHECKOUT

CONSTRAINTS = CHECKOUT / "constraints.txt"
SECONDS = 120


def uv(*words: object, **more: object) -> subprocess.CompletedProcess[str]:
    """Run uv; it fetches no interpreter, and reads no configuration of its own."""
    program = require_tool(str(Path(sys.executable).with_name("uv")))
    return subprocess.run(
        [program, *map(str, words)], env=environment(), capture_output=True, text=True,
        **{"timeout": SECONDS, "stdin": None if "input" in more else subprocess.DEVNULL, **more},
    )  # fmt: skip


@cache
def environment() -> dict[str, str]:
    """Variables that uv reads, from pip's configuration: uv does not look at that itself."""
    index, certificates = _of_pip("index-url"), _of_pip("cert")
    return {
        **os.environ,
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_NO_CONFIG": "1",
        **({"UV_INDEX_URL": index} if index else {}),
        **({"SSL_CERT_FILE": certificates} if certificates else {}),
    }


def _of_pip(name: str) -> str:
    """Return pip's setting, from its variable or its files; empty where it has none."""
    if given := os.environ.get(f"PIP_{name.upper().replace('-', '_')}"):
        return given
    command = [sys.executable, "-m", "pip", "config", "get", f"global.{name}"]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()
