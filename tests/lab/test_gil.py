"""Whether models run with the GIL is asked of a process like theirs, and only where the build leaves it open."""

import sys
import sysconfig

import pytest

from lab import gil


@pytest.fixture(autouse=True)
def _asked_anew():
    gil.models_have_gil.cache_clear()
    yield
    gil.models_have_gil.cache_clear()


@pytest.mark.parametrize("enabled", [True, False])
def test_free_threaded_build_is_asked(monkeypatch, enabled):
    monkeypatch.setattr(sysconfig, "get_config_var", {"Py_GIL_DISABLED": 1}.get)
    monkeypatch.setattr(gil, "ASK", f"print({enabled})")
    assert gil.models_have_gil() is enabled


def test_other_builds_always_have_it(monkeypatch):
    monkeypatch.setattr(sysconfig, "get_config_var", {"Py_GIL_DISABLED": 0}.get)
    monkeypatch.setattr(gil, "ASK", "raise SystemExit('not to be asked')")
    assert gil.models_have_gil()


def test_question_can_be_asked_here(monkeypatch):
    monkeypatch.setattr(sysconfig, "get_config_var", {"Py_GIL_DISABLED": 1}.get)
    assert gil.models_have_gil() or hasattr(sys, "_is_gil_enabled")
