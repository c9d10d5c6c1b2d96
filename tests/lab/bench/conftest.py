"""Tools of a real benchmark."""

import pytest
from support.tools import require_tool

from lab.bench import run as bench


@pytest.fixture
def load_tools():
    for name in ("wrk", "nginx"):
        require_tool(name)
    if not bench.pick_cores():
        pytest.skip("needs two cores")
