"""The quick form, for real: every row agrees or says why not, and every wrong model is caught."""

import json
import subprocess
import sys

import pytest

from lab.fidelity.rows import ROWS

pytestmark = [pytest.mark.quiet, pytest.mark.timeout(180)]


def test_quick_form(require_tool):
    for program in ("nginx", "memcached", "node"):
        require_tool(program)
    command = [sys.executable, "-m", "lab", "fidelity", "--quick", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170)
    assert done.stdout, done.stderr
    document = json.loads(done.stdout)
    assert document["failed"] == []
    assert len(document["rows"]) == sum(row.quick for row in ROWS)
    assert [line for line in document["unexplained"] if not document["inconclusive"]] == []
    assert all(row["control"]["caught"] for row in document["rows"] if row["control"])
