"""The stack that the tests of this folder share."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.stack import Stack, free_ports
from support.tools import require_tool

from lab import settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser


ODD = "my lab (1) [2] 'three' \"four\" & $PLACE 100% #6 ;7 \u00fc " + "long" * 20
"""A name with all that means something to a shell or to a configuration, and too long for the address of a socket."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's chromium."""
    from playwright.sync_api import sync_playwright

    # Its sandbox does not work for root; what it opens is ours alone.
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=require_tool("chromium"), args=["--no-sandbox"])


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Down to begin with; whatever a test leaves running is ended."""
    folder = Path(tempfile.mkdtemp(prefix="lab-e2e-")) / ODD
    folder.mkdir()
    variables = [port.variable for port in settings.PORTS]
    stack = Stack(folder, dict(zip(variables, free_ports(len(variables)), strict=True)))
    try:
        yield stack
    finally:
        stack.make("lab-down")
        for process in stack.processes():
            process.kill()
        shutil.rmtree(folder.parent)
