"""Exit codes, remarks and the table of a comparison; words that the command refuses."""

import io

import pytest
from rich.console import Console
from typer.testing import CliRunner

from lab.cli import app
from lab.fidelity import run as comparing
from lab.fidelity import show
from lab.sandbox.outside import SandboxError


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({}, 0),
        ({"model": 0.6}, 1),
        ({"wrong": 0.33}, 1),
        ({"failed": ["it did not start"]}, 1),
        ({"inconclusive": ["a row"]}, 3),
    ],
)
def test_exit_code(document, more, code):
    assert show.exit_code(document(**more)) == code


def test_remarks_count_and_name_what_is_missing(document):
    lines = list(show.remarks(document(model=0.6)))
    assert lines[0] == "0 of 1 rows agree; 1 of 1 wrong models are caught"
    assert "redis is not installed, so its rows are left out: apt-get install redis-server" in lines
    assert any(line.startswith("unexplained: busiest worker's share") for line in lines)


def test_table_has_every_row(document):
    output = io.StringIO()
    Console(file=output, width=200).print(show.table(document()))
    assert "33 %" in output.getvalue()
    assert "± 10 %" in output.getvalue()
    assert "agrees" in output.getvalue()


def test_system_that_there_is_not_is_refused():
    done = CliRunner().invoke(app, ["fidelity", "--only", "envoy"])
    assert done.exit_code == 2
    assert "no real system is called 'envoy'; there are nginx, memcached, node" in done.stderr


def test_machine_without_a_sandbox_is_told_the_remedy(monkeypatch):
    def run(**_):
        raise SandboxError("user namespaces are forbidden here", "allow them")

    monkeypatch.setattr(comparing, "run", run)
    done = CliRunner().invoke(app, ["fidelity", "--quick"])
    assert done.exit_code == 2
    assert "user namespaces are forbidden here: allow them" in done.stderr


def test_json_is_alone_on_stdout(monkeypatch, document, tmp_path):
    folder = tmp_path / "20261129T150000.000-fidelity"
    folder.mkdir()
    monkeypatch.setattr(comparing, "run", lambda **_: (folder, document()))
    done = CliRunner().invoke(app, ["fidelity", "--json"])
    assert done.exit_code == 0
    assert done.stdout.startswith("{")
    assert done.stdout.endswith("}\n")
