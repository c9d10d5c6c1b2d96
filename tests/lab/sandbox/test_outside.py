"""Nothing outlives a sandbox, whichever way it ends."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from lab.sandbox import outside

DEADLINE_SECONDS = 10


def wait_until(condition):
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def descendants(pid):
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


def alive(process):
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def network_namespace(pid):
    with suppress(OSError):
        return Path(f"/proc/{pid}/ns/net").readlink()
    return None


def network_namespaces():
    """Those that any process lives in."""
    return {network_namespace(pid) for pid in psutil.pids()}


def test_command_is_root_of_its_own_with_an_init_for_parent(tmp_path):
    program = "import os; print(os.getuid(), os.getppid())"
    with outside.launched([sys.executable, "-c", program], tmp_path / "errors") as process:
        assert process.communicate(timeout=DEADLINE_SECONDS)[0].split() == ["0", "1"]


def test_orphans_are_buried(tmp_path):
    program = """if True:
        import os, subprocess, time
        orphan = int(subprocess.run(["sh", "-c", "sleep 0.1 & echo $!"], capture_output=True, text=True).stdout)
        deadline = time.monotonic() + 5
        while os.path.exists(f"/proc/{orphan}") and time.monotonic() < deadline:
            time.sleep(0.02)
        print(os.path.exists(f"/proc/{orphan}"))
    """
    with outside.launched([sys.executable, "-c", program], tmp_path / "errors") as process:
        assert process.communicate(timeout=DEADLINE_SECONDS)[0].split() == ["False"]


def test_exit_code_is_the_commands(tmp_path):
    with outside.launched(["sh", "-c", "exit 7"], tmp_path / "errors") as process:
        assert process.wait(timeout=DEADLINE_SECONDS) == 7


def test_end_of_the_block_kills_all_inside(tmp_path):
    with outside.launched(["sh", "-c", "sleep 100 & sleep 100 & wait"], tmp_path / "errors") as process:
        wait_until(lambda: len(descendants(process.pid)) >= 3)
        inside = descendants(process.pid)
    wait_until(lambda: not any(alive(process) for process in inside))
    assert len(inside) >= 3


def test_forbidden_namespaces_name_both_ways_out(monkeypatch):
    monkeypatch.setattr(outside, "FORMS", (("sh", "-c", "echo no such right >&2; false"),))
    with pytest.raises(outside.SandboxError, match=r"no such right.*docker compose run.*sysctl"):
        outside.working_form()


def test_sysctl_that_forbids_namespaces_is_named(monkeypatch, tmp_path):
    (tmp_path / "proc" / "sys" / "user").mkdir(parents=True)
    (tmp_path / "proc" / "sys" / "user" / "max_user_namespaces").write_text("0\n")
    monkeypatch.setattr(outside.apparmor, "ROOT", tmp_path)
    monkeypatch.setattr(outside, "FORMS", (("false",),))
    with pytest.raises(outside.SandboxError, match=r"as root: sysctl -w user\.max_user_namespaces=\d+$"):
        outside.working_form()


def test_missing_tool_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(outside.SandboxError, match="`unshare` is not installed"):
        outside.working_form()


def of_run(state_dir):
    """Every process that has inherited this run's environment."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("LAB_STATE_DIR") == str(state_dir) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@pytest.mark.parametrize("latest_seconds", [0.5, 1.0, 2.0, 4.0])
def test_lab_killed_at_a_random_moment_leaves_nothing(tmp_path, latest_seconds):
    """From its very start on: also before the kernel has been asked to end the children."""
    environment = {**os.environ, "LAB_STATE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "lab", "run", "busiest-worker", "--quick"]
    lab = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(random.uniform(latest_seconds / 2, latest_seconds))  # the moment: no condition to wait for
    namespaces = {network_namespace(process.pid) for process in of_run(tmp_path)}
    namespaces -= {network_namespace(os.getpid()), None}
    lab.send_signal(signal.SIGKILL)
    lab.wait()
    wait_until(lambda: not of_run(tmp_path))
    wait_until(lambda: not namespaces & network_namespaces())
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.parent.parent.name != "results"]
    assert left == []
