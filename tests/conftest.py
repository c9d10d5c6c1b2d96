"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support import tools

VMS = "vms: provisions a virtual machine, which takes a quarter of an hour; runs only when asked for with -m vms"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", VMS)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is too slow for every run, unless -m names it."""
    if "vms" in config.option.markexpr:
        return
    slow = [item for item in items if item.get_closest_marker("vms")]
    items[:] = [item for item in items if item not in slow]
    config.hook.pytest_deselected(items=slow)


@pytest.fixture(scope="session")
def require_tool() -> Callable[[str], str]:
    """`require_tool("wrk")`: the program's path; without it a skip, and in CI a failure."""
    return tools.require_tool
