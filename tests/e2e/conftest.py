"""The stack that the tests of this folder share."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.stack import Stack, free_ports

from lab import settings


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Down to begin with; whatever a test leaves running is ended."""
    folder = Path(tempfile.mkdtemp(prefix="lab-e2e-"))
    variables = [port.variable for port in settings.PORTS]
    stack = Stack(folder, dict(zip(variables, free_ports(len(variables)), strict=True)))
    try:
        yield stack
    finally:
        stack.make("lab-down")
        for process in stack.processes():
            process.kill()
        shutil.rmtree(folder)
