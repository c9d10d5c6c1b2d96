"""Fixtures for all tests."""

from __future__ import annotations

import fcntl
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
from support import tools

SLOW = {
    "vms": "provisions a virtual machine, which takes half an hour; runs only when asked for with -m vms",
    "nightly": "tries one more way to do what other tests do; runs only when asked for with -m nightly",
}


# A machine that is busy, or that stalls, makes an example take long and the code no worse.
hypothesis.settings.register_profile("patient", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("patient")

LEFT_OPEN = "left open"
"""Property of a test that names a check which could not be decided."""
LOCK_FILE = Path(tempfile.gettempdir()) / f"lab-tests-{os.getuid()}.lock"
GATE_FILE = LOCK_FILE.with_suffix(".gate")
QUIET = "quiet: measures, so that no other test may run beside it"


def pytest_configure(config: pytest.Config) -> None:
    # A shell's background job ignores Ctrl-C, and so would all that it starts: tests could interrupt nothing.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", QUIET)
    for marker, meaning in SLOW.items():
        config.addinivalue_line("markers", f"{marker}: {meaning}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is too slow for every run, unless -m names it."""
    left_out = [marker for marker in SLOW if marker not in config.option.markexpr]
    slow = [item for item in items if any(item.get_closest_marker(marker) for marker in left_out)]
    items[:] = [item for item in items if item not in slow]
    config.hook.pytest_deselected(items=slow)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what this machine was too busy to decide."""
    reports = (report for reports in terminalreporter.stats.values() for report in reports)
    left_open = [
        text
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
        for name, text in report.user_properties
        if name == LEFT_OPEN
    ]
    if left_open:
        terminalreporter.section(f"{len(left_open)} timed checks are left open")
        for text in left_open:
            terminalreporter.write_line(str(text))


@pytest.fixture(scope="session")
def require_tool() -> Callable[[str], str]:
    """`require_tool("wrk")`: the program's path; without it a skip, and in CI a failure."""
    return tools.require_tool


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Tests run two at a time, but those marked `quiet` alone. Before anything else: waiting is no part of a test's time."""
    lock = fcntl.LOCK_EX if item.get_closest_marker("quiet") else fcntl.LOCK_SH
    with LOCK_FILE.open("w") as file:
        with GATE_FILE.open("w") as gate:  # while one waits for the others to end, no new one begins
            fcntl.flock(gate, fcntl.LOCK_EX)
            fcntl.flock(file, lock)
        return (yield)
