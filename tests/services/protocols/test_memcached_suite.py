"""memcached's own tests, from Debian's source package, against this lab's server.

Those of its tests are left out that need what is no part of the plain text protocol (binary, TLS, UDP, extstore,
proxy), its slabs and their thresholds, its management (`lru_crawler`, `watch`, `shutdown`, `debugtime`) or its
command line's options (`-F`, `-C`, `-I`, `-m` beyond the default, ...).
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FETCH_SECONDS, TEST_SECONDS = 300, 120
VERSION = "1.6.18"
TESTS = (
    "bogus-commands", "cas", "chunked-items", "evictions", "flags", "getandtouch", "getset", "incrdecr", "issue_104",
    "issue_108", "issue_14", "issue_152", "issue_192", "issue_3", "issue_41", "issue_68", "issue_70",
    "malicious-commands", "metaget", "multiversioning", "noreply", "quit", "strtol-testing", "touch",
)  # fmt: skip
pytestmark = pytest.mark.nightly


def source_archives():
    """The machine's own archives, asked for source packages in place of programs."""
    modern = [path.read_text() for path in Path("/etc/apt/sources.list.d").glob("*.sources")]
    text = "\n\n".join(modern)
    return re.sub(r"^Types:.*$", "Types: deb-src", text, flags=re.MULTILINE)


def apt(folder, *words):
    """Run apt-get with lists of its own: the machine's settings are not ours to change."""
    lists, cache, parts = folder / "lists", folder / "cache", folder / "parts"
    for made in (lists / "partial", cache / "archives" / "partial", parts):
        made.mkdir(parents=True, exist_ok=True)
    (parts / "source.sources").write_text(source_archives())
    settings = {"sourcelist": "/dev/null", "sourceparts": parts}
    options = [f"Dir::Etc::{name}={value}" for name, value in settings.items()]
    options += [f"Dir::State::lists={lists}", f"Dir::Cache={cache}"]
    command = ["apt-get", "-q", *(word for option in options for word in ("-o", option)), *words]
    return subprocess.run(command, cwd=folder, capture_output=True, timeout=FETCH_SECONDS, check=False).returncode == 0


@pytest.fixture(scope="module")
def suite(tmp_path_factory, require_tool):
    """The unpacked source, whose `memcached-debug` is our server."""
    for tool in ("apt-get", "perl", "gcc"):
        require_tool(tool)
    folder = tmp_path_factory.mktemp("memcached")
    if not (apt(folder, "update") and apt(folder, "source", "--download-only", f"memcached={VERSION}-1")):
        pytest.skip("memcached's source package cannot be had here")
    (archive,) = folder.glob("*.orig.tar.*z")
    subprocess.run(["tar", "xf", archive], cwd=folder, check=True)
    source = folder / f"memcached-{VERSION}"
    subprocess.run(["gcc", "-o", "timedrun", "timedrun.c"], cwd=source, check=True)
    words = shlex.join([sys.executable, str(ROOT / "tests" / "support" / "as_memcached.py")])
    program = source / "memcached-debug"
    program.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    program.chmod(0o755)
    return source


@pytest.mark.parametrize("name", TESTS)
def test_memcacheds_own_test_passes(suite, name):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = ["perl", f"t/{name}.t"]
    outcome = subprocess.run(
        command, cwd=suite, env=environment, capture_output=True, text=True, timeout=TEST_SECONDS, check=False
    )
    failed = [line for line in outcome.stdout.splitlines() if line.startswith("not ok")]
    assert (outcome.returncode, failed) == (0, []), outcome.stderr[-2000:]
