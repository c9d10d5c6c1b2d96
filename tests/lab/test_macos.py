"""Commands that bring the containers up from macOS use nothing that macOS has not.

No Mac is here. Each command runs as a process that pretends to be one (support/darwin), and talks to a `docker` that
notes what it is asked; the Makefile and its script are held to make 3.81, a POSIX shell and macOS' own tools.
"""

from __future__ import annotations

import http.server
import json
import os
import pkgutil
import re
import shutil
import socketserver
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.stack import outer_environment
from support.tools import require_tool

import lab
from lab import settings

DARWIN = Path(__file__).parents[1] / "support" / "darwin"
MAKEFILE = settings.CHECKOUT / "Makefile"
SCRIPT = settings.CHECKOUT / "provisioning" / "virtualenv.sh"
DOCKER = """#!/bin/sh
echo "$*" >> "$0.asked"
case "$*" in
    *"context inspect"*) echo "$DOCKER_HOST" ;;
    "version --format {{.Server.Version}}") echo 28.0.1 ;;
    "compose version --short") echo 2.32.4 ;;
    "info --format {{.KernelVersion}}") echo 6.10.14-linuxkit ;;
    *"config --images"*) echo accept-lab-services; echo accept-lab-lab ;;
    *"compose"*" build "*) echo "the end of this test" >&2; exit 17 ;;
esac
"""
LONG = 120


class Engine(http.server.BaseHTTPRequestHandler):
    """The engine's API: one network of the stack, so that it is up, and nothing else."""

    def do_GET(self):
        path = self.path.partition("?")[0]
        answer = {"ApiVersion": "1.47", "Version": "28.0.1"} if path.endswith("/version") else []
        if path.endswith("/networks") and self.server.up:
            answer = [{"Name": "accept-lab_default", "Id": "1", "Labels": {}}]
        if path.endswith("/volumes"):
            answer = {"Volumes": []}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self):
        return "unix"

    def log_message(self, *_):
        pass


class Mac:
    """Commands on it, and what they ask docker."""

    def __init__(self, folder, server):
        self.folder, self.server = folder, server
        self.docker = folder / "bin" / "docker"
        self.docker.parent.mkdir()
        self.docker.write_text(DOCKER)
        self.docker.chmod(0o755)
        bare = {name: value for name, value in outer_environment().items() if not name.startswith("LAB_")}
        self.environment = bare | {
            "PATH": f"{self.docker.parent}:{os.environ['PATH']}",
            "PYTHONPATH": f"{DARWIN}:{settings.CHECKOUT}",
            "DOCKER_HOST": f"unix://{server.server_address}",
            "LAB_STATE_DIR": str(folder / "state"),
        }

    def lab(self, *words):
        return self.python("-m", "lab", *words)

    def python(self, *words):
        return subprocess.run(
            [sys.executable, *words], cwd=settings.CHECKOUT, env=self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=LONG,
        )  # fmt: skip

    def asked(self):
        file = Path(f"{self.docker}.asked")
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def mac(tmp_path):
    with socketserver.ThreadingUnixStreamServer(str(tmp_path / "docker.sock"), Engine) as server:
        server.daemon_threads, server.up = True, True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield Mac(tmp_path, server)
        finally:
            server.shutdown()
            thread.join()


def said(done):
    return f"{done.args}\n{done.stdout}\n{done.stderr}"


def test_every_module_of_the_lab_can_be_imported(mac):
    names = [
        module.name
        for module in pkgutil.walk_packages(lab.__path__, "lab.")
        if not module.name.endswith("__main__") and ".peers.hello_" not in module.name
    ]
    assert "lab.sandbox.wire" in names
    done = mac.python(
        "-c",
        f"import sys, importlib\nassert sys.platform == 'darwin'\nfor name in {names}: importlib.import_module(name)",
    )
    assert done.returncode == 0, said(done)


def test_load_is_made_beside_the_models(mac):
    done = mac.lab("load", "nginx", "--users", "5", "--seconds", "2")
    assert done.returncode == 0, said(done)
    assert any(re.search(r"compose .* run .* lab load nginx --users 5 ", line) for line in mac.asked()), mac.asked()


def test_experiments_run_in_the_container(mac):
    done = mac.lab("run", "busiest-worker", "--quick")
    assert done.returncode == 0, said(done)
    assert any(re.search(r"compose .* run .* lab run busiest-worker --quick", line) for line in mac.asked()), (
        mac.asked()
    )


def test_up_comes_as_far_as_building_the_images(mac):
    mac.server.up = False
    done = mac.lab("up", "--place", "containers")
    assert "the image cannot be built: the end of this test" in done.stdout, said(done)
    assert "Traceback" not in done.stdout + done.stderr, said(done)


@pytest.mark.parametrize(
    ("words", "code", "words_back"),
    [
        (["models"], 0, "ramcloud"),
        (["doctor"], 0, "Darwin 24.1.0"),
        (["status"], 1, "grafana"),
        (["list"], 0, "busiest"),
        (["up", "--place", "local"], 2, "the lab is up already"),
        (["set", "nginx", "workers=2"], 2, "nginx does not run here"),
        (["chaos", "pause", "nginx"], 2, "nginx does not run here"),
        (["serve", "nginx"], 2, "need Linux"),
        (["bench", "--quick"], 2, "on Linux"),
        (["fidelity", "--quick"], 2, "namespaces are Linux's"),
        (["load", "nginx", "--", "--host", "http://192.0.2.1"], 2, "load is made on Linux"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_command_works_or_says_in_a_line_why_not(mac, words, code, words_back):
    done = mac.lab(*words)
    assert "Traceback" not in done.stderr, said(done)
    assert done.returncode == code, said(done)
    assert words_back in done.stdout + done.stderr, said(done)
    if code == 2:
        assert len(done.stderr.splitlines()) == 1


def test_local_place_is_refused_where_nothing_runs(mac):
    mac.server.up = False
    done = mac.lab("up", "--place", "local")
    assert (done.returncode, "needs Linux" in done.stderr) == (2, True), said(done)


# make, and its shell.


NEWER_THAN_3_81 = {
    r"^\.ONESHELL|^\.SHELLFLAGS|^\.RECIPEPREFIX|^\.POSIX": "special targets and variables of 3.82 and newer",
    r"^[\w.]+\s*(!=|::=|:::=)": "assignments of 4.0 and newer",
    r"&:": "grouped targets, 4.3",
    r"^\s*(undefine|private|load|-load)\s": "directives of 3.82 and newer",
    r"^define\s+\S+\s*[:+?]?=": "define with an assignment, 3.82",
    r"\$[({](file|guile|let|intcmp)\s": "functions of 4.0 and newer",
    r"\.EXTRA_PREREQS|\.NOTINTERMEDIATE|\.WAIT": "special names of 4.3 and newer",
    r"\|\s*&|--output-sync|-O\b.*\$\(MAKE\)": "options of 4.0 and newer",
}
GNU_ALONE = {
    r"\bsed\b[^|;]*\s-(i|r|z)\b|\bsed\b[^|;]*--": "sed",
    r"\breadlink\s+-|\brealpath\b": "readlink, realpath",
    r"\bdate\b[^|;]*(\s-d|--|%N)": "date",
    r"\bstat\s+(-c|--)": "stat",
    r"\bgrep\b[^|;]*\s(-[a-zA-Z]*P|--)": "grep",
    r"\b(cp|mv|rm|ln|mkdir|touch|sort|head|tail|cut|tr|wc|xargs|mktemp|(?<!pip )install)\b[^|;&]*\s--[a-z]": "long options",
    r"\bxargs\b[^|;]*\s-r\b|\bsort\b[^|;]*\s-V\b|\b(head|tail)\b[^|;]*\s-[cn]\s*-|\bcp\b[^|;]*\s-a\b": "options",
    r"\b(nproc|tac|timeout|flock|setsid|shuf|seq|getent|free|ip|ss|sha256sum|md5sum|numfmt)\s+[-\w$\"]": "programs",
    r"\becho\s+-[en]|\bawk\b.*(gensub|strftime|systime|asort)": "echo, awk",
}


@pytest.mark.parametrize("pattern", NEWER_THAN_3_81, ids=NEWER_THAN_3_81.values())
def test_makefile_is_one_for_make_3_81(pattern):
    assert re.findall(f"(?m).*{pattern}.*" if pattern[0] != "^" else f"(?m){pattern}.*", MAKEFILE.read_text()) == []


def code_of(file):
    """A file's lines without comments, and what follows `apt-get` on Debian, which is never reached on macOS."""
    lines = (line.partition("  #")[0] for line in file.read_text().splitlines() if not line.lstrip().startswith("#"))
    return [line for line in lines if "apt-get" not in line]


@pytest.mark.parametrize("pattern", GNU_ALONE, ids=GNU_ALONE.values())
@pytest.mark.parametrize("file", [MAKEFILE, SCRIPT], ids=lambda file: file.name)
def test_shell_uses_nothing_that_gnu_alone_has(file, pattern):
    assert [line for line in code_of(file) if re.search(pattern, line) and ".ci" not in line] == []


def test_patterns_find_what_they_are_for():
    for line in ("sed -i s/a/b/ f", "readlink -f .", "date -d now", "stat -c %s f", "grep -oP a", "mkdir --parents a",
                 "sort -V", "flock 9", "nproc --all", "echo -n a"):  # fmt: skip
        assert any(re.search(pattern, line) for pattern in GNU_ALONE), line
    for line in ("rule: ; .ONESHELL", "A != date", "a b &: c", "undefine A", "$(file >a,b)"):
        text = line.partition("; ")[2] or line
        assert any(re.search(f"(?m){pattern}", text) for pattern in NEWER_THAN_3_81), line


def posix_scripts():
    paths = subprocess.run(
        ["git", "ls-files", "-z", "*.sh", ".devcontainer"],
        cwd=settings.CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    files = [settings.CHECKOUT / path for path in paths if path]
    return [file for file in files if file.read_bytes().startswith(b"#!/bin/sh")]


def test_scripts_are_posix_shell():
    dash = require_tool("dash")
    scripts = posix_scripts()
    assert SCRIPT in scripts
    for script in scripts:
        done = subprocess.run([dash, "-n", script], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), script


OF_MACOS = ("sh", "cat", "chmod", "cp", "cut", "date", "dirname", "basename", "echo", "env", "expr", "find", "grep", "head", "id",
            "kill", "ln", "ls", "mkdir", "mktemp", "mv", "ps", "pwd", "rm", "rmdir", "sed", "sleep", "sort", "tail", "tee",
            "test", "touch", "tr", "true", "uname", "wc", "xargs", "awk", "perl")  # fmt: skip
STUB = """#!/bin/sh
echo "python $*" >> '{asked}'
case "$*" in
    "-c "* | "-m lab.folder_names "*) PYTHONPATH='{checkout}' exec '{python}' "$@" ;;
    "-m venv --clear"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    *"-m pip --version") [ -e .venv/bin/python ] || exit 1 ;;
esac
"""


def test_environment_is_made_with_the_tools_that_macos_has(tmp_path):
    tools, checkout, asked = tmp_path / "bin", tmp_path / "checkout", tmp_path / "asked"
    tools.mkdir()
    checkout.mkdir()
    for name in OF_MACOS:
        (tools / name).symlink_to(shutil.which(name))
    (tools / "python3").write_text(STUB.format(asked=asked, checkout=settings.CHECKOUT, python=sys.executable))
    (tools / "python3").chmod(0o755)
    done = subprocess.run(
        [require_tool("dash"), SCRIPT, "python3", "lab"],
        cwd=checkout,
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, said(done)
    assert "not found" not in done.stderr, done.stderr
    commands = asked.read_text().splitlines()
    assert "python -m venv --clear .venv" in commands
    assert any("pip_install.py" in command and "[lab]" in command for command in commands), commands
    assert (checkout / ".venv" / "lab.stamp").exists()
