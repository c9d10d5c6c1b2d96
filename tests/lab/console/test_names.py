"""Variables that say by which names the live page may be called."""

from __future__ import annotations

import pytest
from support.stack import free_ports
from typer.testing import CliRunner

from lab import settings
from lab.cli import app
from lab.console import links
from lab.stack import up_down

VARIABLES = ("LAB_CONSOLE_NAMES", "CODESPACES", "CODESPACE_NAME", "GITHUB_CODESPACES_PORT_FORWARDING_DOMAIN")


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        ("lab.example", ["lab.example"]),
        ("lab.example,class-room, 192.0.2.7 ", ["lab.example", "class-room", "192.0.2.7"]),
    ],
)
def test_names_are_a_list(monkeypatch, text, names):
    monkeypatch.setenv("LAB_CONSOLE_NAMES", text)
    assert settings.console_names() == names


@pytest.mark.parametrize(
    "text", ["https://lab.example", "lab.example:8080", "lab.example/page", "*.example", 'a"b', "é"]
)
def test_what_is_no_name_is_refused_before_anything_starts(monkeypatch, capsys, text):
    monkeypatch.setenv("LAB_CONSOLE_NAMES", text)
    monkeypatch.setattr(up_down, "play", lambda *_: pytest.fail("something was started"))
    assert up_down.up("local") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"LAB_CONSOLE_NAMES: {text!r} is no host name" in line


def test_codespace_knows_its_own_name(monkeypatch):
    monkeypatch.setenv("LAB_CONSOLE_NAMES", "lab.example")
    monkeypatch.setenv("LAB_CONSOLE_PORT", "8181")
    monkeypatch.setenv("CODESPACES", "true")
    monkeypatch.setenv("CODESPACE_NAME", "robot-x7")
    assert settings.console_names() == ["lab.example", "robot-x7-8181.app.github.dev"]
    monkeypatch.setenv("GITHUB_CODESPACES_PORT_FORWARDING_DOMAIN", "app.example")
    assert settings.console_names() == ["lab.example", "robot-x7-8181.app.example"]


def test_names_reach_the_page_from_the_variable_and_the_option(monkeypatch):
    served, (port,) = [], free_ports(1)
    monkeypatch.setenv("LAB_CONSOLE_NAMES", "lab.example")
    monkeypatch.setattr("lab.console.page.serve", lambda host, port, names, interval: served.append(names))
    done = CliRunner().invoke(app, ["console", "--port", str(port), "--name", "class.example"])
    assert (done.exit_code, served) == (0, [["lab.example", "class.example"]])
    assert CliRunner().invoke(app, ["console", "--port", str(port), "--name", "http://x"]).exit_code == 2


@pytest.mark.parametrize(
    ("host", "root"),
    [
        ("127.0.0.1", "http://127.0.0.1:9090"),
        ("lab.example", "http://lab.example:9090"),
        ("robot-x7-8080.app.github.dev", "https://robot-x7-9090.app.github.dev"),
    ],
)
def test_other_tools_are_where_a_forwarder_shows_them(monkeypatch, host, root):
    for port in (settings.CONSOLE, settings.PROMETHEUS):
        monkeypatch.delenv(port.variable, raising=False)
    assert links.root_of(settings.PROMETHEUS, host) == root
