"""The lab lives in almost any folder, and says at once in which it cannot."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lab.folder_names import fault_of
from lab.settings import CHECKOUT


@pytest.mark.parametrize(
    "name", ["my lab", "(1)", "[2]", "it's", 'a "b"', "a&b", "$HOME", "100%", "#5", "a;b", "Übung", "日本"]
)
def test_folder_that_will_do(name):
    assert fault_of(f"/home/me/{name}/lab") == ""


@pytest.mark.parametrize(
    ("name", "word"), [("a:b", "a colon"), ("a\nb", "U+000A"), ("a\x1bb", "U+001B"), ("a\u2028b", "U+2028")]
)
def test_folder_that_cannot_be_written_down_is_refused_by_its_character(name, word):
    assert word in fault_of(f"/home/me/{name}")


def test_folder_that_is_no_utf_8_is_refused():
    assert "0xE9" in fault_of(os.fsdecode(b"/home/caf\xe9"))


def test_set_up_refuses_before_it_makes_anything(tmp_path):
    folder = tmp_path / "a:b"
    folder.mkdir()
    script = CHECKOUT / "provisioning" / "virtualenv.sh"
    done = subprocess.run(
        ["sh", script, sys.executable, "lab"], cwd=folder, env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("setup: the folder ")
    assert done.stderr.count("\n") == 1
    assert list(folder.iterdir()) == []
