"""What the roles declare becomes supervisord's configuration, whatever is in the names of folders."""

from __future__ import annotations

import shlex
from io import StringIO

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from supervisor.options import UnhosedConfigParser

from lab import settings
from lab.stack import leftovers, local, parts, supervision
from lab.stack.local import Program

ODD = "my lab (1) [2] 'three' \"four\" & $HOME %(five)s #6 ;7 \u00e9\u00a0#8"
"""Everything that a folder's name may have in it and that means something to a shell or to a configuration."""

words = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=20)


def read(text: str, section: str, option: str) -> str:
    """The value as supervisord reads it."""
    parser = UnhosedConfigParser()
    parser.expansions = {"ENV_LAB_CHECKOUT": "/checkout"}
    parser.read_file(StringIO(text))
    return parser.saneget(section, option)


@given(st.lists(words, min_size=1, max_size=5))
def test_command_is_read_as_it_was_declared(argv):
    program = Program("one", ["program", *argv], {}, str(settings.CHECKOUT))
    assert shlex.split(read(local.configuration([program]), "program:one", "command")) == ["program", *argv]


def test_options_and_environment_are_words_of_the_command():
    options = {"config.file": ODD, "web": True, "without": False, "workers": 4}
    program = Program("one", ["/bin/program"], options, str(settings.CHECKOUT), {"LAB_NAME": f'{ODD}="'})
    assert shlex.split(read(local.configuration([program]), "program:one", "command")) == [
        "env", f'LAB_NAME={ODD}="', "/bin/program", f"--config.file={ODD}", "--web", "--workers=4",
    ]  # fmt: skip


def test_program_runs_in_the_checkout_or_in_a_folder_of_the_state(state_dir, tmp_path):
    state_dir(tmp_path)
    here, there = (Program("one", ["x"], {}, str(folder)) for folder in (settings.CHECKOUT, tmp_path / "prometheus"))
    assert read(local.configuration([here]), "program:one", "directory") == "/checkout"
    assert read(local.configuration([there]), "program:one", "directory") == "prometheus"


@pytest.fixture
def stack(state_dir, tmp_path):
    """A stack of one program that sleeps, in a folder with an odd name that is too long for a socket's address."""
    folder = state_dir(tmp_path / ODD / ("d" * 100))
    folder.mkdir(parents=True)
    yield
    leftovers.end()
    assert leftovers.ours() == []


def sleeping(seconds: int) -> Program:
    return Program("console", ["sleep", str(seconds)], {}, str(settings.CHECKOUT), {"LAB_NAME": ODD})


def environment_of_console() -> dict[str, str]:
    """What the program was started with; empty while it has not started."""
    pid = supervision.pid_of("console")
    return leftovers.environment(psutil.Process(pid)) if pid else {}


@pytest.mark.usefixtures("stack")
def test_supervisord_runs_what_is_declared_and_only_what_has_changed_anew():
    assert "supervisord: started, with all parts" in local.apply([sleeping(600)])
    assert supervision.wait(lambda: environment_of_console().get("LAB_NAME") == ODD, 20)
    pid = supervision.pid_of("console")
    assert local.apply([sleeping(600)]) == []
    assert supervision.pid_of("console") == pid
    assert "console: restarted with its new configuration" in local.apply([sleeping(601)])
    assert supervision.wait(lambda: supervision.pid_of("console") not in {0, pid}, 20)
    assert parts.declared() == ["console"]


@pytest.mark.usefixtures("stack")
def test_program_that_supervisord_does_not_know_is_missing():
    local.apply([sleeping(600)])
    assert supervision.missing(["console", "nginx"]) == ["console", "nginx"]  # it runs, but nobody answers at its port
