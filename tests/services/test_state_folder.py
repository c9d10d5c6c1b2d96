"""State folders: whose they are, and what becomes of them when a server ends."""

from __future__ import annotations

import ctypes
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.control import change
from support.servers import refusal, wait_for_busy, wait_until


def test_unusable_state_folder_is_named(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    line = refusal("nginx", "--port", "0", "--admin-port", "0", "--state-dir", str(tmp_path / "file"))
    assert str(tmp_path / "file") in line
    assert "--state-dir" in line
    assert "port" not in line


def test_state_folder_that_cannot_be_made_is_named() -> None:
    assert "--state-dir" in refusal("nginx", "--port", "0", "--admin-port", "0", "--state-dir", "/proc/nowhere")


PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1


def as_anybody() -> None:
    """From the next exec on root, too, may write only where the permissions say so; for others nothing changes."""
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE)


def test_unwritable_state_folder_is_named(tmp_path) -> None:
    tmp_path.chmod(0o500)
    words = ("nginx", "--port", "0", "--admin-port", "0", "--state-dir", str(tmp_path))
    assert "--state-dir" in refusal(*words, preexec_fn=as_anybody)


def test_folder_of_another_server_is_refused_and_stays_its_own(serve, tmp_path) -> None:
    first = serve("nginx", "--state-dir", str(tmp_path / "state"), "--workers", "1")
    line = refusal("nodejs", "--port", "0", "--admin-port", "0", "--state-dir", str(tmp_path / "state"))
    assert line == f"cannot use the state folder {tmp_path}/state: another server uses it; give another --state-dir\n"
    assert (tmp_path / "state" / "control.sock").exists()
    assert change(tmp_path / "state", workers=2)["options"]["workers"] == 2
    assert first.get("/").status_code == 200


def test_folder_is_refused_by_whatever_way_it_is_named(serve, tmp_path) -> None:
    serve("nginx", "--state-dir", str(tmp_path / "state"), "--workers", "1")
    (tmp_path / "link").symlink_to(tmp_path / "state")
    assert "another server" in refusal(
        "nginx", "--port", "0", "--admin-port", "0", "--state-dir", str(tmp_path / "link")
    )


@pytest.mark.parametrize(("model", "kind"), [("nginx", "process"), ("ramcloud", "thread")])
def test_folder_of_a_killed_server_is_free_at_once(serve, tmp_path, model, kind) -> None:
    killed = serve(model, "--worker-kind", kind, "--state-dir", str(tmp_path / "state"))
    killed.connect().sendall(b"GET /work?block=20s HTTP/1.1\r\nHost: x\r\n\r\n")  # a worker stuck in a handler
    wait_for_busy(killed)
    killed.signal(signal.SIGKILL)
    killed.process.wait(5)
    assert serve(model, "--worker-kind", kind, "--state-dir", str(tmp_path / "state")).get("/").status_code == 200


# The temporary state folder.


def folders(parent: Path) -> list[Path]:
    return list(parent.glob("lab-*"))


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    parent = tmp_path / "tmp"
    parent.mkdir()
    monkeypatch.setenv("TMPDIR", str(parent))
    return parent


def test_state_folder_goes_with_a_drain(serve, temporary) -> None:
    server = serve("nginx", "--workers", "1")
    assert len(folders(temporary)) == 1
    server.signal(signal.SIGTERM)
    assert server.process.wait(5) == 0
    assert folders(temporary) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("model", "kind"), [("memcached", "process"), ("ramcloud", "thread")])
def test_state_folder_goes_with_an_end_at_once(serve, temporary, model, kind, number) -> None:
    server = serve(model, "--worker-kind", kind, "--workers", "1", "--drain", "60", "--store", "sqlite")
    server.connect().sendall(b"GET /work?block=20s HTTP/1.1\r\nHost: x\r\n\r\n")
    wait_for_busy(server)
    server.signal(number)
    wait_until(lambda: closed(server.port), what="a drain")
    server.signal(number)
    assert server.process.wait(10) == 1
    assert folders(temporary) == []


def closed(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_folder_of_a_killed_server_goes_when_the_next_starts(serve, temporary) -> None:
    living = serve("nginx", "--workers", "1")
    killed = serve("nginx", "--workers", "1")
    assert len(folders(temporary)) == 2
    killed.signal(signal.SIGKILL)
    killed.process.wait(5)
    foreign = temporary / "lab-load-of-somebody-else"
    foreign.mkdir()
    wait_until(lambda: len(folders(temporary)) == 3, what="the folder left behind")
    third = serve("nginx", "--workers", "1")
    assert len(folders(temporary)) == 3  # the living one's, the third's, and the foreign one
    assert foreign.exists()
    for server in (living, third):
        assert server.get("/kv/x").status_code == 404  # their stores are where they were


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_state_folder_goes_with_a_server_that_is_stopped_while_it_starts(temporary, number) -> None:
    program = (
        "import os, sys\n"
        "import services.__main__ as root\n"
        f"root.make_helper = lambda *_: os.kill(os.getpid(), {number.value})\n"
        "sys.exit(root.main(['nginx', '--port', '0', '--admin-port', '0']))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert folders(temporary) == []
