"""What is said when a server or a worker cannot start, and what is left when one ends without a drain."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.servers import wait_for_busy, wait_until

from services.workers.process import close_all_but

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services", *arguments],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        **options,
    )


def refusal(*arguments: str, **options: object) -> str:
    """What a server says that refuses to start: one line."""
    done = run(*arguments, **options)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_taken_service_port_is_named_and_nothing_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = refusal("nginx", "--port", port, "--admin-port", "0")
    assert f"port {port}" in line
    assert "--port" in line
    assert "admin" not in line


def test_taken_admin_port_is_named_and_nothing_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = refusal("nginx", "--port", "0", "--admin-port", port)
    assert f"admin port {port}" in line
    assert "--admin-port" in line
    assert "--host" not in line


def test_unusable_address_is_named() -> None:
    assert "--host" in refusal("nginx", "--host", "192.0.2.1", "--port", "0", "--admin-port", "0")


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


def test_state_folder_with_a_broken_store_is_named(tmp_path) -> None:
    (tmp_path / "store.sqlite3").write_bytes(b"this is no database" * 100)
    line = refusal("nginx", "--port", "0", "--admin-port", "0", "--state-dir", str(tmp_path))
    assert "--state-dir" in line
    assert "port" not in line


def test_too_few_descriptors_are_named() -> None:
    line = refusal(
        "memcached", "--worker-kind", "process", "--workers", "16", "--port", "0", "--admin-port", "0",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24)),
    )  # fmt: skip
    assert "ulimit -n" in line
    assert "port" not in line


def test_worker_that_does_not_begin_to_serve_is_ended_and_replaced(serve_with, tmp_path) -> None:
    # The first worker hangs before it serves; its successor, which finds the file, does not.
    hung = tmp_path / "hung"
    hang_once = (
        "import time\n"
        "from pathlib import Path\n"
        "from services.workers import main as workers, process\n"
        "workers.START_SECONDS = 3\n"
        "begin = process.ProcessWorker._begin\n"
        "def hang(self):\n"
        "    begin(self)\n"
        f"    if not Path({str(hung)!r}).exists():\n"
        f"        Path({str(hung)!r}).touch()\n"
        "        time.sleep(60)\n"
        "process.ProcessWorker._begin = hang\n"
    )
    server = serve_with(hang_once, "nginx", "--workers", "2")
    wait_until(lambda: [w["state"] for w in server.state()["workers"]] == ["idle", "idle"], what="two that serve")
    log = server.log.read_text()
    assert "worker 0 does not serve after 3 s" in log
    assert "worker 0 died" in log
    assert server.metric("lab_worker_restarts_total") == 1


def test_worker_that_ends_at_once_is_said_and_replaced(serve_with, tmp_path) -> None:
    ended = tmp_path / "ended"
    end_once = (
        "import os\n"
        "from pathlib import Path\n"
        "from services.workers import process\n"
        "begin = process.ProcessWorker._begin\n"
        "def end(self):\n"
        "    begin(self)\n"
        f"    if not Path({str(ended)!r}).exists():\n"
        f"        Path({str(ended)!r}).touch()\n"
        "        os._exit(7)\n"
        "process.ProcessWorker._begin = end\n"
    )
    server = serve_with(end_once, "memcached", "--worker-kind", "process", "--workers", "1")
    wait_until(lambda: server.state()["workers"][0]["state"] == "idle", what="a successor")
    assert "exit code 7" in server.log.read_text()


def test_only_the_gaps_are_closed() -> None:
    # In a child, since it closes nearly everything.
    program = (
        "import os\n"
        "from services.workers.process import close_all_but\n"
        "kept, closed = os.dup(0), [os.dup(0) for _ in range(5)]\n"
        "os.dup2(0, 100); os.dup2(0, 200)\n"
        "close_all_but({0, 1, 2, kept, 100})\n"
        "print(sorted(int(name) for name in os.listdir('/proc/self/fd')))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=20)
    assert done.stdout == "[0, 1, 2, 3, 4, 100]\n"  # 4 is the listing's own


def test_gaps_are_closed_without_a_descriptor_to_spare() -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(reader, writer) + 1,) * 2)
        close_all_but({writer})
        os.write(writer, b"done")
        os._exit(0)
    os.close(writer)
    assert os.read(reader, 10) == b"done"
    assert os.read(reader, 10) == b""
    os.close(reader)
    os.waitpid(pid, 0)


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
