"""The first start shows how far pip is."""

from __future__ import annotations

import importlib.util
import os
import sys

from lab.stack.playbook import PROVISIONING

FILE = PROVISIONING / "pip_progress.py"


def pip_progress():
    spec = importlib.util.spec_from_file_location("pip_progress", FILE)
    module = sys.modules["pip_progress"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_counts_what_is_collected_and_then_what_is_there(tmp_path):
    pip = pip_progress().Progress()
    assert pip.shown(tmp_path) == "collecting packages: 0 so far"
    pip.hear("Collecting rich>=13 (from accept-lab==0.1.0)")
    pip.hear("  Downloading rich-14.0-py3-none-any.whl (243 kB)")
    assert pip.shown(tmp_path) == "collecting packages: 1 so far, rich>=13"
    pip.hear("Installing collected packages: rich, ruamel.yaml, typing_extensions")
    assert pip.shown(tmp_path).endswith(f"[{'.' * 30}] 0 of 3")
    for there in ("rich-14.0.dist-info", "ruamel_yaml-0.18.dist-info"):
        (tmp_path / there).mkdir()
    assert pip.shown(tmp_path).endswith(f"[{'#' * 20}{'.' * 10}] 2 of 3")


def test_failure_shows_what_pip_said(tmp_path, capfd):
    assert pip_progress().install([str(tmp_path / "nothing.whl")], os.environ) == 1
    assert "nothing.whl" in capfd.readouterr().err
