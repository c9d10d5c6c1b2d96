"""The output of `lab`, whatever its encoding, and whoever reads it."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lab.cli import output

COMMANDS = (["--help"], ["models"], ["models", "--json"], ["list"], ["list", "--json"], ["load", "--help"])
SEVERAL = """
import json, os, sys
from lab import cli
for words in json.loads(sys.argv[1]):
    try:
        cli.app(words)
    except SystemExit as end:
        print("ended", end.code)
"""


def run(words: list[list[str]], **variables: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", SEVERAL, json.dumps(words)], capture_output=True, timeout=60,
        env={**os.environ, "COLUMNS": "120", **variables},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("variables", "encoding"),
    [
        ({"PYTHONIOENCODING": "ascii"}, "utf-8"),  # click's own output is UTF-8 then
        ({"PYTHONIOENCODING": "latin-1"}, "latin-1"),
        ({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, "utf-8"),
    ],
)
def test_no_encoding_of_the_output_ends_a_command(variables, encoding):
    done = run([*map(list, COMMANDS)], **variables)
    text = done.stdout.decode(encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert re.findall(r"^ended (\d)$", text, re.MULTILINE) == ["0"] * len(COMMANDS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2 × 3 – 4 µs → “x”…", "2 x 3 - 4 us -> 'x'..."), ("日 \N{GRINNING FACE}", r"\u65e5 \ud83d\ude00")],
)
def test_character_that_an_encoding_lacks_is_replaced(text, expected):
    assert text.encode("ascii", "lab.plain").decode() == expected
    assert json.loads(json.dumps({"a": text}, ensure_ascii=False).encode("ascii", "lab.plain"))


def test_path_in_no_encoding_is_shown():
    done = run([["results", "pin", "a-\udcff"]])
    assert (done.returncode, done.stdout) == (0, b"ended 2\n")
    assert b"a-\\udcff" in done.stderr


def test_character_that_an_encoding_has_stays():
    assert "3 × é".encode("latin-1", "lab.plain") == "3 × é".encode("latin-1")


@pytest.mark.parametrize(
    "words", [["models"], ["models", "--json"], ["list"], ["--help"], ["load", "--help"], ["results", "list"]]
)
def test_reader_that_leaves_early_ends_a_command_without_a_word(words, tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "lab", *words], stdout=pipe, stderr=subprocess.PIPE, text=True, timeout=60,
            env={**os.environ, "LAB_STATE_DIR": str(tmp_path)},
        )  # fmt: skip
    assert done.stderr == ""
    assert done.returncode == (0 if words[0] == "results" else output.BROKEN_PIPE)  # there is no run: no output either


@pytest.mark.parametrize("words", [["models"], ["models", "--json"], ["list"]])
def test_output_whose_disk_is_full_is_a_line(words):
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([sys.executable, "-m", "lab", *words], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (output.BAD_USAGE, 1), done.stderr
    assert "No space left on device" in done.stderr


def test_line_about_the_run_follows_what_was_printed(monkeypatch):
    both = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(both))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(both))
    sys.stdout.write("a table\n")
    output.say("a summary")
    sys.stderr.flush()
    assert both.getvalue() == b"a table\nlab: a summary\n"
