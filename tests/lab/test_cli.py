"""The `lab` command: what it takes, what it refuses and how, and what it passes on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lab import __version__, cli
from lab.bench import run as bench_module
from lab.load import locust as load_module
from lab.models_table import document
from lab.stack import doctor as doctor_module
from lab.stack import status as status_module
from lab.stack import up_down
from lab.stack.doctor import Finding
from lab.stack.status import Part
from services.options import COMMON, MODELS

LAB = Path(sys.executable).with_name("lab")
COMMANDS = (
    "doctor", "up", "down", "status", "models", "serve", "set", "chaos", "top", "console", "grafana", "load", "results", "compare", "export",
    "bench", "fidelity", "advise", "list", "run", "report",
)  # fmt: skip
PORT_VARIABLE = "LAB_NGINX_ADMIN_PORT"


@pytest.fixture
def lab(monkeypatch):
    """Run a command inside this process, so that what it calls can be replaced."""
    monkeypatch.setenv("COLUMNS", "120")
    return lambda *arguments: CliRunner().invoke(cli.app, arguments, catch_exceptions=False)


def run_lab(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The console script, as a user starts it."""
    return subprocess.run(
        [LAB, *arguments], capture_output=True, text=True, timeout=30, env={**os.environ, **environment}
    )


def assert_refused(done, *words: str) -> None:
    """One line on stderr that holds `words`, nothing on stdout, exit code 2."""
    code = done.returncode if isinstance(done, subprocess.CompletedProcess) else done.exit_code
    assert code == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr


# Help.


def test_help_lists_every_command_in_its_group():
    done = run_lab("--help")
    assert done.returncode == 0
    listed = re.findall(r"^│ (\w+) ", done.stdout, re.MULTILINE)
    assert sorted(listed) == sorted(COMMANDS)
    groups = re.findall(r"^╭─ ([A-Z][\w ]+) ─", done.stdout, re.MULTILINE)
    assert {panel.PANEL for panel in cli.PANELS} | {"Options"} == set(groups)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_begins_with_its_usage(lab, command):
    done = lab(command, "--help")
    assert done.exit_code == 0
    assert f"Usage: lab {command}" in done.stdout.replace("root", "lab")


def test_help_imports_nothing_heavy():
    program = (
        "import sys\nfrom lab.cli import app\ntry:\n app(['--help'])\nfinally:\n print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert "doctor" in done.stdout
    imported = set(done.stderr.split())
    assert "lab.cli" in imported
    heavy = {
        "ansible",
        "asyncio",
        "gevent",
        "httpx",
        "locust",
        "psutil",
        "prometheus_client",
        "lab.top",
        "lab.bench",
        "lab.fidelity",
        "lab.harness",
        "lab.load",
        "lab.measure",
        "lab.report",
        "lab.stack",
        "matplotlib",
    }
    assert imported & heavy == set()


def test_no_command_shows_help(lab):
    assert "Usage:" in lab().output


def test_unknown_command_is_answered_with_the_nearest():
    done = run_lab("staus")
    assert done.returncode == 2
    assert "status" in done.stderr


# Models.


def test_models_shows_every_model_option_and_value(lab):
    done = lab("models")
    assert done.exit_code == 0
    for model in MODELS.values():
        assert model.name in done.stdout
        for option in model.options:
            assert f"--{option.name}" in done.stdout
            assert all(choice in done.stdout for choice in option.choices)


def test_models_fits_80_columns():
    assert max(map(len, run_lab("models", COLUMNS="80").stdout.splitlines())) <= 80


def test_models_json_is_the_option_table(lab):
    shown = json.loads(lab("models", "--json").stdout)
    assert shown == document()
    assert {model["name"]: model["term"] for model in shown} == {name: model.term for name, model in MODELS.items()}
    nginx = next(model for model in shown if model["name"] == "nginx")
    assert nginx["options"][0]["choices"][0] == nginx["options"][0]["default"] == "exclusive-rotating"
    assert nginx["worker_kinds"] == ["process", "thread"]
    assert nginx["options"][0]["teaches"]


# Serve.


def test_serve_passes_everything_through(lab, monkeypatch):
    started = []
    monkeypatch.setattr(os, "execv", lambda *arguments: started.append(arguments))
    options = ("--port", "0", "--wakeup=herd", "--json", "-h", "--help")
    assert lab("serve", "nginx", *options).exit_code == 0
    assert started == [(sys.executable, [sys.executable, "-m", "services", "nginx", *options])]


def test_serve_help_of_a_model_lists_its_options():
    done = run_lab("serve", "nginx", "--help")
    assert done.returncode == 0
    for option in (*COMMON, *MODELS["nginx"].options):
        assert f"--{option.name}" in done.stdout


def test_serve_serves_until_it_is_told_to_end():
    command = [LAB, "serve", "nodejs", "--port", "0", "--admin-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            line = server.stdout.readline()
            assert line.startswith("nodejs ready: service http://127.0.0.1:")
            assert line.split()[-1] == str(server.pid), "exec: the server is the process that was started"
            admin = re.search(r"admin (\S+)", line)[1]
            shown = json.loads(run_lab("top", "--json", "--interval", "0.1", "--url", admin).stdout)["models"][0]
            assert (shown["model"], shown["up"], shown["workers"][0]["pid"]) == ("nodejs", True, server.pid)
            assert shown["accept_queue"]["limit"] > 0
            assert shown["workers"][0]["cpu_percent"] is not None
            server.send_signal(signal.SIGTERM)
            assert server.wait(20) == 0
        finally:
            server.kill()


@pytest.mark.parametrize("command", ["serve", "load"])
def test_unknown_model_is_answered_with_the_five(command):
    assert_refused(run_lab(command, "apache"), "'apache'", *MODELS)


def test_serve_with_options_before_the_model_says_where_they_go(lab):
    assert_refused(lab("serve", "--port", "8000", "nginx"), "the model comes before its options", *MODELS)


# The stack.


FINE = Finding("kernel", "ok", "6.18", "never shown")
POOR = Finding("cores", "warn", "2", "use a larger machine")
BAD = Finding("port 8001", "fail", "taken", "set LAB_NODEJS_PORT")


@pytest.fixture
def doctor_finds(monkeypatch):
    def finds(*findings):
        monkeypatch.setattr(doctor_module, "examine", lambda: list(findings))

    return finds


@pytest.mark.parametrize(("findings", "code"), [([FINE], 0), ([FINE, POOR], 0), ([POOR, BAD], 2)])
def test_doctor_fails_only_for_what_fails(lab, doctor_finds, findings, code):
    doctor_finds(*findings)
    for arguments in ((), ("--json",)):
        assert lab("doctor", *arguments).exit_code == code


def test_doctor_shows_remedies_of_what_is_not_well(lab, doctor_finds):
    doctor_finds(FINE, POOR, BAD)
    shown = lab("doctor").stdout
    assert "use a larger machine" in shown
    assert "set LAB_NODEJS_PORT" in shown
    assert "never shown" not in shown


def test_doctor_shows_brackets_as_they_are(lab, doctor_finds):
    doctor_finds(Finding("seccomp", "warn", "[red]unconfined[/red]", "security_opt: [seccomp=unconfined]"))
    shown = lab("doctor").stdout
    assert "[red]unconfined[/red]" in shown
    assert "[seccomp=unconfined]" in shown


def test_doctor_json_is_a_list_of_findings(lab, doctor_finds):
    doctor_finds(BAD)
    expected = {"subject": "port 8001", "level": "fail", "detail": "taken", "remedy": "set LAB_NODEJS_PORT"}
    assert json.loads(lab("doctor", "--json").stdout) == [expected]


def test_list_sets_what_is_often_said_beside_what_was_measured(lab):
    listed = {each["name"]: each for each in json.loads(lab("list", "--json").stdout)}
    (said,) = listed["handshake"]["corrects"]
    assert (said["statement"], said["check"]) == ("E6", "before-accept")
    assert said["often_said"] == "accept() completes the handshake."
    assert said["measured"].startswith("connect() ")
    assert "“accept() completes" in lab("list").stdout


@pytest.mark.parametrize("command", ["up", "down"])
@pytest.mark.parametrize("code", [0, 2])
def test_up_and_down_pass_the_place_and_the_exit_code(lab, monkeypatch, command, code):
    asked = []
    monkeypatch.setattr(up_down, command, lambda place, **_: asked.append(place) or code)
    assert lab(command).exit_code == code
    assert lab(command, "--place", "containers").exit_code == code
    assert asked == ["auto", "containers"]


def test_up_refuses_an_unknown_place(lab):
    done = lab("up", "--place", "mars")
    assert done.exit_code == 2
    assert "containers" in done.stderr


UP = Part("nginx", "local", "running", "ok", "http://127.0.0.1:8004", 4711, 12.0, 30 * 2**20, "")
SICK = Part("ramcloud", "local", "running", "failing", "http://127.0.0.1:8003", 4712, 0.0, 2**20, "")
STOPPED = Part("nodejs", "local", "stopped", "-", "", 0, 0.0, 0, "")
LEFT_OUT = Part("grafana", "local", "absent", "-", "", 0, 0.0, 0, "needs a container engine")


@pytest.mark.parametrize(
    ("parts", "code", "words"),
    [
        ([UP, LEFT_OUT], 0, ""),
        ([UP, SICK], 1, "not well: ramcloud"),
        ([UP, STOPPED], 1, "not well: nodejs"),
        ([STOPPED, LEFT_OUT], 1, "`make lab-up` starts the stack"),
        ([], 1, "`make lab-up` starts the stack"),
    ],
)
def test_status_is_good_when_all_that_can_run_works(lab, monkeypatch, parts, code, words):
    monkeypatch.setattr(status_module, "parts", lambda: parts)
    table, document = lab("status"), lab("status", "--json")
    assert (table.exit_code, document.exit_code) == (code, code)
    # Of the table the last line, so that it follows the table through a pipe, too; JSON is alone on the output.
    assert words in table.stdout.splitlines()[-1]
    assert table.stderr == ""
    assert words in document.stderr
    assert bool(document.stderr) == bool(words)


def test_status_shows_what_a_part_costs(lab, monkeypatch):
    monkeypatch.setattr(status_module, "parts", lambda: [UP, LEFT_OUT])
    shown = lab("status").stdout
    assert "place: local" in shown
    assert re.search(r"nginx +running +ok +http://127.0.0.1:8004 +4711 +12 +30", shown)
    assert "needs a container engine" in shown


def test_status_json_is_a_list_of_parts(lab, monkeypatch):
    monkeypatch.setattr(status_module, "parts", lambda: [UP])
    part = json.loads(lab("status", "--json").stdout)[0]
    assert (part["name"], part["pid"], part["memory_bytes"]) == ("nginx", 4711, 30 * 2**20)


def test_status_of_another_place_has_no_parts(lab, monkeypatch):
    monkeypatch.setattr(status_module, "parts", lambda: [UP])
    assert lab("status", "--place", "local", "--json").exit_code == 0
    done = lab("status", "--place", "vms", "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (1, [])


# Measuring.


def test_load_passes_everything_on(lab, monkeypatch):
    asked = []
    monkeypatch.setattr(load_module, "make", lambda load, **_: asked.append(load) or 1)
    arguments = ("--users", "7", "--rate", "2.5", "--seconds", "9", "--kind", "mixed", "--", "--shape", "step")
    assert lab("load", "nginx", *arguments).exit_code == 1
    assert asked == [load_module.Load(("nginx",), 7, 2.5, 9.0, "mixed", extra=("--shape", "step"))]


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("20", 20), ("1.5", 1.5), ("90s", 90), ("1m", 60), ("1h", 3600), ("1m30s", 90), ("1500ms", 1.5), ("1e+06", 1e6)],
)
def test_load_takes_durations(lab, monkeypatch, given, seconds):
    asked = []
    monkeypatch.setattr(load_module, "make", lambda load, **_: asked.append(load.seconds) or 0)
    assert lab("load", "nginx", "--seconds", given).exit_code == 0
    assert asked == [seconds]


@pytest.mark.parametrize("given", ["0", "-1", "1d", "m", "1 m", "nan", "inf", "s1", "", "10ms"])
def test_load_refuses_what_is_no_duration(lab, given):
    done = lab("load", "nginx", "--seconds", given)
    assert done.exit_code == 2
    assert "90s" in done.stderr or "1 s or more" in done.stderr


def test_every_option_that_takes_seconds_takes_durations(lab, bench_gives):
    asked = bench_gives(EMPTY)
    assert lab("bench", "--seconds", "1500ms").exit_code == 0
    assert asked[0][1] == 1.5
    for words in (("top", "--interval", "2m"), ("console", "--idle-interval", "2m")):
        assert "up to 60 s" in lab(*words).stderr


def test_load_refuses_an_unknown_kind(lab):
    assert_refused(lab("load", "nginx", "--kind", "slow"), "'slow'", "keep-alive", "memcache")


@pytest.fixture
def bench_gives(monkeypatch):
    asked = []

    def gives(document):
        def run(servers, seconds, rounds, parts, progress, application):
            asked.append((servers, seconds, rounds, parts) + ((application.spec,) if application else ()))
            progress("round 1 of 1: nginx")
            if isinstance(document, Exception):
                raise document
            return document

        monkeypatch.setattr(bench_module, "run", run)
        return asked

    return gives


EMPTY = {"environment": {}, "rows": [], "missing": []}


def test_bench_json_is_alone_on_stdout(lab, bench_gives):
    bench_gives(EMPTY)
    done = lab("bench", "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (0, EMPTY)
    assert done.stderr == "lab: round 1 of 1: nginx\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), (None, 2.0, 7, set())),
        (("--quick",), (None, 1.0, 1, set())),
        (("--quick", "--rounds", "3", "--seconds", "2"), (None, 2.0, 3, set())),
        (("--only", "granian", "--only", "rows", "--only", "nginx"), (["granian", "nginx"], 2.0, 7, {"rows"})),
        (("--only", "rows", "--server", "granian", "--server", "nginx"), (["granian", "nginx"], 2.0, 7, {"rows"})),
        (("--app", "shop:app", "--server", "nginx"), (["nginx"], 2.0, 7, {"rows"}, "shop:app")),
    ],
)
def test_bench_measures_what_was_asked_for(lab, bench_gives, arguments, expected):
    asked = bench_gives(EMPTY)
    assert lab("bench", *arguments).exit_code == 0
    assert asked == [expected]


def test_bench_puts_a_part_into_a_stored_run(lab, bench_gives, tmp_path):
    stored = tmp_path / "stored.json"
    stored.write_text(json.dumps({**EMPTY, "rows": [1], "watching": {"nodejs": "old"}}))
    bench_gives({**EMPTY, "watching": {"nodejs": "new"}})
    assert lab("bench", "--only", "watching", "--into", str(stored), "--json").exit_code == 0
    after = json.loads(stored.read_text())
    assert (after["rows"], after["watching"]) == ([1], {"nodejs": "new"})


def test_bench_with_too_few_cores_is_inconclusive(lab, bench_gives, tmp_path):
    bench_gives({**EMPTY, "inconclusive": "needs 2 cores"})
    stored = tmp_path / "stored.json"
    stored.write_text("{}")
    done = lab("bench", "--into", str(stored))
    assert done.exit_code == 3
    assert "inconclusive: needs 2 cores" in done.stderr
    assert stored.read_text() == "{}"


def test_bench_that_cannot_run_says_why(lab, bench_gives):
    bench_gives(bench_module.BenchError("no server is called apache"))
    done = lab("bench", "--only", "apache")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == "lab: no server is called apache"


# Refusals.


@pytest.mark.parametrize("port", ["x", "0", "65536", "-1"])
def test_wrong_port_variable_is_one_line(port):
    assert_refused(run_lab("top", "--once", **{PORT_VARIABLE: port}), PORT_VARIABLE, "1 to 65535")


@pytest.mark.parametrize("url", ["9100", "https://127.0.0.1:9100"])
def test_wrong_admin_url_is_one_line(url):
    assert_refused(run_lab("top", "--once", "--url", url), "http://127.0.0.1:9100")


@pytest.mark.parametrize(
    "arguments", [("top", "--interval", "0"), ("load", "nginx", "--users", "0"), ("bench", "--rounds", "x"), ("load",)]
)
def test_wrong_usage_exits_with_2(arguments):
    done = run_lab(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "Usage" in done.stderr


def test_missing_package_is_one_line(lab, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert_refused(lab("models"), "'rich.console'", "make setup")


def test_missing_module_of_ours_is_a_bug(lab, monkeypatch):
    monkeypatch.setitem(sys.modules, "lab.stack.up_down", None)
    monkeypatch.delattr("lab.stack.up_down")
    with pytest.raises(ModuleNotFoundError):
        lab("up")


# Reports.


def test_report_makes_every_page_anew_and_says_where_they_are(tmp_path):
    document = {
        "experiment": "e", "chapter": "models", "question": "Why?", "predict": "Guess", "explanation": "So.", "arms": [],
        "checks": [], "verdict": "holds", "inconclusive": [], "seconds": 1.0, "begun": "2026-11-23T22:00:00+00:00",
        "environment": {"kernel": "6", "cpus": 2, "python": "3.11.7", "gil": True, "commit": "c"},
    }  # fmt: skip
    run, interrupted = (tmp_path / "results" / f"20261123T22000{number}.000-e" for number in (0, 1))
    run.mkdir(parents=True)
    interrupted.mkdir()
    (run / "result.json").write_text(json.dumps(document))
    done = run_lab("report", LAB_STATE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path}/results/index.html\n"
    assert interrupted.name in done.stderr
    assert "Why?" in (run / "report.html").read_text()
    named = run_lab("report", "20261123T220000", LAB_STATE_DIR=str(tmp_path))
    assert named.stdout.splitlines() == [f"{run}/report.html", f"{tmp_path}/results/index.html"]


@pytest.mark.parametrize("words", [(), ("e",)])
def test_report_without_a_run_is_refused(tmp_path, words):
    assert_refused(run_lab("report", *words, LAB_STATE_DIR=str(tmp_path)), "run")


def test_version_is_that_of_the_package():
    done = run_lab("--version")
    assert (done.returncode, done.stdout) == (0, f"lab {__version__}\n")


def test_shell_completion_knows_the_models():
    script = run_lab("--show-completion", "bash")
    assert "_LAB_COMPLETE" in script.stdout or "COMPLETE" in script.stdout


def test_results_are_listed_pinned_and_pruned(tmp_path):
    for second in range(3):
        folder = tmp_path / "results" / f"20260101T00000{second}.000-load-nodejs"
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(
            '{"schema": 9, "kind": "load"}' if second == 2 else '{"schema": 2, "kind": "load"}'
        )
    state = {"LAB_STATE_DIR": str(tmp_path)}
    listed = run_lab("results", "list", **state).stdout.splitlines()
    assert len(listed) == 3
    assert "has schema 9" in listed[2]
    assert run_lab("results", "pin", "20260101T000000", **state).returncode == 0
    assert "000001" in run_lab("results", "prune", "--keep", "2", "--dry-run", **state).stdout
    assert_refused(run_lab("results", "prune", LAB_RESULTS_KEEP="0", **state), "LAB_RESULTS_KEEP")
    assert_refused(run_lab("results", "pin", "nothing", **state), "lab results list")
