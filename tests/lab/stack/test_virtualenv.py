"""An interpreter that the lab cannot be installed for is refused at once, with what to do instead."""

import subprocess

import pytest

from lab.settings import CHECKOUT


@pytest.mark.parametrize(
    ("unlike", "what", "instead"),
    [
        ("version_info", "is too old, 3.11 is needed", "make PYTHON=/path/to/a/newer/python"),
        ("Py_GIL_DISABLED", "has no GIL", "make PYTHON=/path/to/one/with/the/GIL"),
    ],
)
def test_interpreter_that_will_not_do_is_refused(tmp_path, unlike, what, instead):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncase "$*" in *{unlike}*) exit 1 ;; esac\n')
    python.chmod(0o755)
    script = CHECKOUT / "provisioning" / "virtualenv.sh"
    done = subprocess.run(["sh", script, python, "lab"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("setup: ")
    assert what in line
    assert instead in line
    assert list(tmp_path.iterdir()) == [python]
