"""Processors that containers are to have, and that the machine may lack."""

from __future__ import annotations

import pytest

from lab.settings import SettingError
from lab.stack import cpusets, engine


@pytest.fixture(autouse=True)
def two_processors(monkeypatch):
    monkeypatch.setattr(engine, "docker", lambda *_: (0, "2"))
    for name in cpusets.VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("text", ["", "0", "1", "0-1", "0,1", "0, 1"])
def test_processors_that_are_there_are_taken(monkeypatch, text):
    monkeypatch.setenv("LAB_MODELS_CPUSET", text)
    cpusets.check()


@pytest.mark.parametrize("text", ["7", "2", "0-3", "0,9"])
def test_processor_that_the_machine_lacks_is_refused(monkeypatch, text):
    monkeypatch.setenv("LAB_LOAD_CPUSET", text)
    with pytest.raises(SettingError, match=r"LAB_LOAD_CPUSET=.*there is no processor \d; give some of 0 to 1"):
        cpusets.check()


@pytest.mark.parametrize("text", ["x", "1-", "-1", "1-0", "0;1", "all", "0-999999"])
def test_list_that_is_none_is_refused(monkeypatch, text):
    monkeypatch.setenv("LAB_MODELS_CPUSET", text)
    with pytest.raises(SettingError, match="give processors such as"):
        cpusets.check()


def test_engine_that_does_not_say_hinders_nothing(monkeypatch):
    monkeypatch.setattr(engine, "docker", lambda *_: (1, "no answer"))
    monkeypatch.setenv("LAB_MODELS_CPUSET", "7")
    cpusets.check()
