"""`lab up` that Ctrl-C ends half-way, at whatever step: the next `lab down` recovers. For kill -9 see tests/reliability."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from typing import Any

import pytest
from support.stack import Stack, assert_interrupted

from services.options import MODELS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

STEPS: dict[str, Callable[[Stack], bool]] = {
    "preflight": lambda stack: (stack.folder / "ansible").exists(),
    "configured": lambda stack: (stack.folder / "supervisor/supervisord.conf").exists(),
    "started": lambda stack: len(stack.processes()) > len(MODELS),
}
"""How far it has got, as one can see from outside."""


@pytest.fixture(autouse=True)
def _fresh(stack: Stack) -> None:
    assert stack.make("lab-down").returncode == 0
    (stack.folder / "supervisor/supervisord.conf").unlink(missing_ok=True)
    shutil.rmtree(stack.folder / "ansible", ignore_errors=True)


def steps(by_day: str) -> list[Any]:
    """All of them; by day, when each costs CI a quarter of a minute, only one."""
    return [pytest.param(step, marks=[] if step == by_day else pytest.mark.nightly) for step in STEPS]


@pytest.mark.parametrize("step", steps("started"))
def test_after_ctrl_c_down_clears_up(stack, step):
    cut_off = stack.interrupted_up(signal.SIGINT, lambda: STEPS[step](stack))
    assert_interrupted(cut_off)
    done = stack.make("lab-down")
    assert done.returncode == 0, done.stdout + done.stderr
    assert stack.processes("LAB_STATE_DIR") == []
    assert stack.processes() == []
