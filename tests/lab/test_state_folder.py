"""A state folder that is somebody else's, full, or read-only: every command says so in a line, and nothing is ended."""

from __future__ import annotations

import errno
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support import disks
from support.tools import require_tool

from lab import cli, results, settings, state_folder

SOMEBODY = pwd.getpwnam("nobody")
SEVERAL = """
import json, sys
from typer.testing import CliRunner
from lab import cli
done = [CliRunner().invoke(cli.app, words) for words in json.loads(sys.argv[1])]
print(json.dumps([[one.exit_code, one.stdout, one.stderr, repr(one.exception)] for one in done]))
"""
"""Several commands in one process: starting Python takes longer than they do."""
RUN = "20260101T000000.000-load-nginx"
COMMANDS = {
    "up": ["--place", "local"], "down": ["--place", "local"], "status": [], "set": ["nginx", "workers=2"],
    "chaos": ["pause", "nginx"], "console": [], "load": ["nginx"], "results": ["list"],
    "compare": ["docs/benchmark.json"], "fidelity": ["--quick"], "run": ["busiest-worker", "--quick"], "report": [],
}  # fmt: skip


def lab(commands: list[list[str]], state_dir: Path, *prefix: str, **variables: str) -> list[tuple[int, str, str, str]]:
    """Exit code, output, errors and exception of each command."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LAB_")}
    done = subprocess.run(
        [*prefix, sys.executable, "-c", SEVERAL, json.dumps(commands)], cwd=settings.CHECKOUT, capture_output=True,
        text=True, timeout=60, env={**environment, "LAB_STATE_DIR": str(state_dir), "COLUMNS": "200", **variables},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [tuple(one) for one in json.loads(done.stdout.splitlines()[-1])]


def assert_line(found: tuple[int, str, str, str], *words: str) -> None:
    code, output, errors, exception = found
    assert (code, output, errors.count("\n")) == (2, "", 1), (errors, exception)
    assert [word for word in words if word not in errors] == [], errors


@pytest.fixture
def as_another() -> tuple[str, ...]:
    """What a command begins with to have no more rights than any user."""
    if os.geteuid():
        pytest.skip("needs root, to give a folder to somebody else")
    return (require_tool("setpriv"), "--bounding-set=-dac_override,-dac_read_search")


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A state folder that somebody else has, with a run in it."""
    folder = tmp_path / "state"
    for name in ("supervisor", f"results/{RUN}"):
        (folder / name).mkdir(parents=True)
    (folder / "results" / RUN / "result.json").write_text("{}")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, SOMEBODY.pw_uid, SOMEBODY.pw_gid)
        path.chmod(0o755)
    return folder


def test_every_command_that_needs_the_state_is_tried_here():
    assert COMMANDS.keys() == cli.NEED_STATE


def test_state_of_somebody_else_is_a_line_with_two_ways_on(closed, as_another):
    found = lab([[name, *words] for name, words in COMMANDS.items()], closed, *as_another)
    for one in found:
        assert_line(one, f"{closed} belongs to nobody", "`sudo -u nobody`", "LAB_STATE_DIR")


def test_state_of_somebody_else_hinders_nothing_that_needs_none(closed, as_another):
    help_of_up, models, doctor = lab([["up", "--help"], ["models"], ["doctor", "--json"]], closed, *as_another)
    assert (help_of_up[0], models[0]) == (0, 0)
    finding = next(each for each in json.loads(doctor[1]) if each["subject"] == "state folder")
    assert (finding["level"], "belongs to nobody" in finding["detail"]) == ("fail", True)


def test_folder_that_is_not_the_labs_hinders_nothing(tmp_path, as_another):
    (tmp_path / "lost+found").mkdir(0o700)
    os.chown(tmp_path / "lost+found", SOMEBODY.pw_uid, SOMEBODY.pw_gid)
    (listed,) = lab([["results", "list"]], tmp_path, *as_another)
    assert listed[:3] == (0, "", "")


def test_folder_of_somebody_else_within_ones_own_is_named(closed, as_another):
    os.chown(closed, 0, 0)
    (status,) = lab([["status"]], closed, *as_another)
    assert_line(status, "belongs to nobody", f"{closed}/results")


def test_state_that_cannot_even_be_looked_at_or_made_is_a_line(closed, as_another):
    closed.chmod(0o700)
    inside, export = lab([["status"], ["export", RUN, "--csv"]], closed / "deeper", *as_another)
    assert_line(inside, "belongs to nobody")
    assert_line(export, "belongs to nobody")
    closed.chmod(0o755)
    (load,) = lab([["results", "pin", RUN]], closed / "deeper", *as_another)
    assert_line(load, RUN)


@pytest.fixture
def spoilt(tmp_path, request):
    """A state folder with a run in it, on a disk that is full or read-only."""
    with disks.disk(tmp_path / "disk", 64 << 10) as folder:
        run = folder / "results" / RUN
        run.mkdir(parents=True)
        shutil.copy(settings.CHECKOUT / "docs" / "benchmark.json", tmp_path / "benchmark.json")
        (run / "result.json").write_text(json.dumps({"schema": 2, "kind": "load", "repeats": []}))
        request.param(folder)
        yield folder


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [(disks.fill, "No space left on device"), (disks.make_read_only, "Read-only file system")],
    indirect=["spoilt"],
)
def test_disk_that_takes_nothing_is_a_line(spoilt, said):
    with socket.create_server(("127.0.0.1", 0)) as server:
        # Enough for a load to begin.
        port = str(server.getsockname()[1])
        written = [["up", "--place", "local"], ["run", "busiest-worker", "--quick"], ["load", "nginx"]]
        written += [["compare", "docs/benchmark.json:nginx", "docs/benchmark.json:nodejs"], ["report", RUN]]
        for one in lab(written, spoilt, LAB_NGINX_PORT=port):
            assert_line(one, said, str(spoilt), "LAB_STATE_DIR")
    read = [["status"], ["set", "nginx", "workers=2"], ["chaos", "pause", "nginx"], ["results", "list"], ["down"]]
    status, changed, chaos, listed, down, doctor = lab([*read, ["doctor", "--json"]], spoilt)
    finding = next(each for each in json.loads(doctor[1]) if each["subject"] == "disk")
    assert (finding["level"], said in finding["detail"]) == ("fail", True)
    assert (status[0], "nothing runs" in status[1]) == (1, True)
    for one in (changed, chaos):
        assert_line(one, "nginx does not run here")
    assert (listed[0], listed[1].split()[0]) == (0, RUN)
    assert down[0] == 0, down
    assert not list(spoilt.rglob("*.new"))


def test_path_that_leads_nowhere_is_a_line(tmp_path):
    """Links in a circle: what resolves a path says so in ways of its own."""
    (tmp_path / "circle").symlink_to("circle")
    *found, doctor = lab(
        [[name, *words] for name, words in COMMANDS.items()] + [["doctor", "--json"]], tmp_path / "circle"
    )
    for one in found:
        assert_line(one, f"{tmp_path}/circle: Too many levels of symbolic links", "LAB_STATE_DIR")
    finding = next(each for each in json.loads(doctor[1]) if each["subject"] == "state folder")
    assert (finding["level"], "Too many levels" in finding["remedy"]) == ("fail", True)


def test_file_that_a_full_disk_cuts_is_not_left(tmp_path):
    with disks.disk(tmp_path / "disk", 64 << 10) as folder:
        (folder / "result.json").write_text("old")
        with pytest.raises(OSError, match="No space"):
            results.put(folder / "result.json", "x" * (128 << 10))
        assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("result.json", "old")]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError(errno.EIO, "Input/output error", "/state/results"),
            ("/state/results: Input/output error", "LAB_STATE_DIR"),
        ),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "/state"), ("/state: Not a directory", "LAB_STATE_DIR")),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), ("Disk quota exceeded; make room there",)),
        (
            OSError(errno.ENOSPC, "No space left on device", "/home/x.csv"),
            ("/home/x.csv: No space", "write elsewhere\n"),
        ),
        (PermissionError(errno.EACCES, "Permission denied", "/home/x.csv"), ("/home/x.csv: Permission denied\n",)),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), ("TMPDIR",)),
    ],
)
def test_error_of_a_disk_says_what_to_do(error, words):
    line = state_folder.explain(error, Path("/state")) + "\n"
    assert [word for word in words if word not in line] == [], line


@pytest.mark.parametrize(
    "error", [FileNotFoundError(errno.ENOENT, "x", "/usr/lib/x.py"), ConnectionRefusedError(111, "x")]
)
def test_other_errors_are_not_explained(error):
    assert state_folder.explain(error, Path("/state")) == ""


def test_user_without_a_name_is_called_by_the_number():
    assert state_folder.user_name(4_000_000_000) == "user 4000000000"
