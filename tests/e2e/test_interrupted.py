"""`lab up` that ends half-way, by Ctrl-C or by kill -9, at whatever step: the next `lab up` or `lab down` recovers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from support.stack import UP_SECONDS, Stack

from lab import settings
from services.options import MODELS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

STEPS: dict[str, Callable[[Stack], bool]] = {
    "preflight": lambda stack: (stack.folder / "lock").exists(),
    "configured": lambda stack: (stack.folder / "supervisor/supervisord.conf").exists(),
    "started": lambda stack: len(stack.processes()) > len(MODELS),
}
"""How far it has got, as one can see from outside."""


def cut_off(stack: Stack, step: str, number: signal.Signals) -> subprocess.Popen[str]:
    """`lab up`, sent the signal as soon as it has got to the step: Ctrl-C reaches all of it, kill -9 only `lab`."""
    command = [str(Path(sys.executable).with_name("lab")), "up", "--place", "local"]
    lab = subprocess.Popen(
        command, cwd=settings.CHECKOUT, env=stack.environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + UP_SECONDS
    while not STEPS[step](stack):
        assert lab.poll() is None, lab.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    if number == signal.SIGINT:
        os.killpg(lab.pid, number)
    else:
        lab.send_signal(number)
    return lab


def wait_for_ansible(stack: Stack) -> None:
    """What a killed `lab` has started goes on, and keeps others out until it has ended."""
    deadline = time.monotonic() + UP_SECONDS
    while any("ansible" in " ".join(process.cmdline()) for process in of_state_folder(stack)):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def of_state_folder(stack: Stack) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("LAB_STATE_DIR") == str(stack.folder):
                process.cmdline()
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture(autouse=True)
def _fresh(stack: Stack) -> None:
    assert stack.make("lab-down").returncode == 0
    for left in ("lock", "supervisor/supervisord.conf"):
        (stack.folder / left).unlink(missing_ok=True)


# Each costs CI a quarter of a minute; all six were tried.
@pytest.mark.parametrize("step", ["preflight", "started"])
def test_after_ctrl_c_down_clears_up(stack, step):
    lab = cut_off(stack, step, signal.SIGINT)
    _output, errors = lab.communicate(timeout=UP_SECONDS)
    assert lab.returncode == 2
    assert errors.splitlines()[-1].startswith("lab: interrupted")
    assert "Traceback" not in errors
    done = stack.make("lab-down")
    assert done.returncode == 0, done.stdout + done.stderr
    assert of_state_folder(stack) == []
    assert stack.processes() == []


@pytest.mark.parametrize("step", ["configured"])
def test_after_kill_9_up_goes_on(stack, step):
    cut_off(stack, step, signal.SIGKILL).communicate(timeout=UP_SECONDS)
    wait_for_ansible(stack)
    done = stack.make("lab-up")
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(MODELS) <= stack.pids().keys()
