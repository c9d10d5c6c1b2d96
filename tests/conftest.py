"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support import tools


@pytest.fixture(scope="session")
def require_tool() -> Callable[[str], str]:
    """`require_tool("wrk")`: the program's path; without it a skip, and in CI a failure."""
    return tools.require_tool
