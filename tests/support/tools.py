"""External programs that some tests use."""

from __future__ import annotations

import os
import shutil

import pytest


def require_tool(name: str) -> str:
    """The program's path. Without it the test is skipped on a user's machine and fails in CI."""
    # Debian keeps nginx and memcached where only root's PATH looks.
    path = shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")
    if path:
        return path
    if os.environ.get("CI") == "true":
        pytest.fail(f"{name} is missing: .ci/run has to install it")
    pytest.skip(f"{name} is not installed")
