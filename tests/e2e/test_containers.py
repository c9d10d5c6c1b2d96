"""The containers place on a real engine: up, confined, load from within, figures, faults, down.

The engine is the tests' own (support/engine.py). No registry of images can be reached from it, so Prometheus and Python
are stand-ins made from Debian's packages, and Grafana is missing, but for the one test that has a stand-in.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from support import plain_http
from support.engine import GRAFANA_IMAGE, PROMETHEUS_IMAGE, PYTHON_IMAGE, Engine, running_engine
from support.stack import PAGE_NAME, Stack, accepts, assert_interrupted, eventually, free_ports, serves

from dashboards.parts import CONSOLE
from lab import settings
from lab.sandbox import apparmor
from services.options import MODELS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]

PROJECT = "accept-lab"
WORKERS = 2
RUNNING = (*MODELS, "prometheus", "locust", "console")
COMPOSE_RUN = ("compose", "--project-directory", str(settings.CHECKOUT), "run", "--rm", "--no-deps", "-T")
FAKE_GRAFANA = """
import json, time
from fake_grafana import FakeGrafana, serve_grafana
class Telling(FakeGrafana):
    def create_annotation(self, new):
        print(json.dumps(new), flush=True)
        return super().create_annotation(new)
with serve_grafana(Telling(anonymous="Editor"), address=("", 3000)):
    time.sleep(600)
"""
METRICS = ("lab_requests_total", "lab_stage_duration_seconds_count", "lab_accept_queue_limit", "lab_netstat_total",
           "lab_worker_memory_bytes", "lab_worker_cpu_seconds_total", "lab_info")  # fmt: skip


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    folder = Path(tempfile.mkdtemp(prefix="lab-engine-"))
    try:
        with running_engine(folder) as engine:
            yield engine
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def stack(engine: Engine) -> Iterator[Stack]:
    folder = Path(tempfile.mkdtemp(prefix="lab-e2e-"))
    variables = [port.variable for port in settings.PORTS]
    ports = dict(zip(variables, free_ports(len(variables)), strict=True))
    stack = Stack(folder, ports, {"PLACE": "containers", "LAB_LOCUST_WORKERS": str(WORKERS), **engine.variables})
    try:
        yield stack
    finally:
        stack.make("lab-down", PLACE="auto")
        shutil.rmtree(folder)


@pytest.fixture
def up(stack: Stack) -> Stack:
    """Every part works."""
    stack.ensure_up(RUNNING)
    return stack


def inspect(engine: Engine, part: str, number: int = 1) -> dict[str, Any]:
    return json.loads(engine.docker("inspect", f"{PROJECT}-{part}-{number}"))[0]


def started(engine: Engine) -> dict[str, str]:
    """When each container was started: changes whenever one is made or started anew."""
    names = engine.names("ps", "--all")
    return {one["Name"]: one["State"]["StartedAt"] for one in json.loads(engine.docker("inspect", *names))}


def said(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Why something was refused: what `lab` says itself, or what Ansible says between the failed task and the summary."""
    own = [line for line in done.stderr.splitlines() if line.startswith("lab: ")]
    _, failed, rest = done.stdout.partition("FAILED: ")
    reason = rest.splitlines()[1:] if failed else []
    return own or [line.strip() for line in reason if not re.search(r"^engine: ok=", line)]


def assert_nothing_left(stack: Stack, engine: Engine) -> None:
    assert engine.names("ps", "--all") == []
    assert [name for name in engine.names("network", "ls") if name.startswith(PROJECT)] == []
    assert engine.names("volume", "ls") == []
    assert [variable for variable, port in stack.ports.items() if accepts(port)] == []
    assert stack.processes() == []


def test_compose_file_is_valid_without_ansible(engine):
    bare = {name: value for name, value in os.environ.items() if not name.startswith("LAB_")}
    command = ["docker", "compose", "config", "--quiet"]
    environment = {**bare, "DOCKER_CONFIG": engine.variables["DOCKER_CONFIG"]}
    for more in ([], ["--env-file", "provisioning/small.env"]):
        done = subprocess.run(
            [*command[:2], *more, *command[2:]], cwd=settings.CHECKOUT, env=environment, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_profile_of_apparmor_is_one_to_a_parser_that_knows_its_rule(engine, tmp_path):
    """Of trixie: bookworm's knows no `userns`. Nothing is loaded, since this kernel need not have AppArmor."""

    def parsed(profile: Path) -> str:
        command = f"apparmor_parser --skip-kernel-load --skip-cache {profile.name} && echo parsed"
        return engine.docker(
            "run", "--rm", "--network", "none", "--volume", f"{profile.parent}:/profiles:ro", "--workdir", "/profiles",
            "--entrypoint", "sh", PROMETHEUS_IMAGE, "-c", command, check=False,
        ).strip()  # fmt: skip

    misspelt = tmp_path / "misspelt"
    misspelt.write_text(apparmor.FILE.read_text().replace("userns,", "usernss,"))
    assert (parsed(apparmor.FILE), parsed(misspelt)) == ("parsed", "")


def go_down(stack: Stack, engine: Engine) -> None:
    if engine.names("ps", "--all"):
        assert stack.make("lab-down", PLACE="auto").returncode == 0
    assert_nothing_left(stack, engine)


def test_user_who_may_not_talk_to_the_engine_is_told_what_to_do(stack, engine, tmp_path):
    docker = tmp_path / "docker"
    as_nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups"
    docker.write_text(f'#!/bin/sh\nexec {as_nobody} {shutil.which("docker")} "$@"\n')
    docker.chmod(0o755)
    done = stack.make("lab-up", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 2
    (line,) = said(done)
    assert "may not talk to the Docker engine" in line
    assert "usermod -aG docker" in line


def test_taken_port_is_named_with_its_variable_and_nothing_is_started(stack, engine):
    go_down(stack, engine)
    with socket.create_server(("127.0.0.1", stack.port("ramcloud"))):
        done = stack.make("lab-up")
    assert done.returncode != 0
    (line,) = said(done)
    for words in (f"port {stack.port('ramcloud')}", "LAB_RAMCLOUD_PORT", f"pid {os.getpid()}"):
        assert words in line
    assert_nothing_left(stack, engine)


def test_base_image_that_cannot_be_had_is_one_line(stack, engine):
    done = stack.make("lab-up", LAB_PYTHON_IMAGE="localhost:1/python:none")
    assert done.returncode == 2
    (line,) = said(done)
    assert "localhost:1/python:none" in line
    assert "LAB_PYTHON_IMAGE" in line
    assert_nothing_left(stack, engine)


def test_wrong_type_of_a_variable_is_one_line(stack, engine):
    done = stack.up_down("up", "containers", ["--extra-vars", '{"lab_somaxconn": 4096}'])
    assert done.returncode == 2
    (line,) = said(done)
    assert "lab_somaxconn" in line
    assert "dict" in line
    assert_nothing_left(stack, engine)


def test_up_starts_every_part_says_where_and_what_is_left_out(stack, engine):
    go_down(stack, engine)
    done = stack.make("lab-up")
    assert done.returncode == 0, done.stdout + done.stderr
    for part in RUNNING:
        shown = rf"^ *{part} +running +http://127\.0\.0\.1:{stack.port(part)}$"
        assert re.search(shown, done.stdout, re.MULTILINE), part
        assert accepts(stack.port(part))
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("Grafana")]
    assert "LAB_GRAFANA_IMAGE" in line
    board = (stack.folder / "containers" / "dashboards" / "lab-compare.json").read_text()
    assert f'"http://127.0.0.1:{stack.port("console")}"' in board
    assert CONSOLE not in board
    assert re.search(r"^ *grafana +absent +left out", done.stdout, re.MULTILINE)


def test_live_page_sees_every_model(up):
    assert eventually(lambda: up.seen_on_the_page() == set(MODELS))


def test_live_page_may_be_called_by_the_name_that_it_is_given(up):
    assert (up.page_under(PAGE_NAME), up.page_under("evil.example")) == (200, 403)


def test_second_up_changes_nothing_and_auto_stays_where_the_stack_is(up, engine):
    before = started(engine)
    done = up.make("lab-up", PLACE="auto")
    assert "changed=0" in done.stdout, done.stdout + done.stderr
    assert started(engine) == before
    refused = up.make("lab-up", PLACE="local")
    assert refused.returncode == 2
    assert "make lab-down" in said(refused)[0]
    assert up.processes() == []


def test_check_mode_changes_nothing(up, engine):
    before = started(engine)
    done = up.up_down("up", "containers", ["--check"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert started(engine) == before


def test_every_part_is_healthy_in_the_engines_eyes(up, engine):
    def sick() -> list[str]:
        return [part for part in RUNNING if inspect(engine, part)["State"]["Health"]["Status"] != "healthy"]

    eventually(lambda: not sick(), 90)
    assert sick() == []
    assert [inspect(engine, "locust-worker", number)["State"]["Status"] for number in (1, 2)] == ["running"] * WORKERS


def test_containers_are_confined(up, engine):
    for name in engine.names("ps"):
        one = json.loads(engine.docker("inspect", name))[0]
        host = one["HostConfig"]
        assert one["Config"]["User"] not in {"", "0", "root"}, name
        assert (host["ReadonlyRootfs"], host["CapDrop"], host["CapAdd"]) == (True, ["ALL"], None), name
        assert "no-new-privileges:true" in host["SecurityOpt"], name
        # The page runs experiments, which make namespaces.
        assert len(host["SecurityOpt"]) == 1 or name == f"{PROJECT}-console-1", name
        assert host["Memory"] > 0, name
        assert (host["Privileged"], host["NetworkMode"]) == (False, f"{PROJECT}_default"), name
        assert [mount for mount in one["Mounts"] if "docker.sock" in mount["Source"]] == [], name
        bound = {at["HostIp"] for ports in host["PortBindings"].values() for at in ports}
        assert bound <= {"127.0.0.1"}, name


def test_model_in_its_container_is_nobody_and_has_a_network_of_its_own(up, engine):
    code = """
import json, os, pathlib, shutil
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
print(json.dumps({
    "uid": os.getuid(), "capabilities": int(status["CapEff"], 16), "no_new_privileges": int(status["NoNewPrivs"]),
    "writable": [path for path in ("/", "/lab", "/venv", "/etc", "/state", "/tmp") if os.access(path, os.W_OK)],
    "somaxconn": int(open("/proc/sys/net/core/somaxconn").read()),
    "tools": [tool for tool in ("cc", "gcc", "c++", "make") if shutil.which(tool)],
}))
"""
    found = json.loads(engine.docker("exec", f"{PROJECT}-nginx-1", "python", "-c", code))
    assert found.pop("uid") != 0
    assert found == {
        "capabilities": 0, "no_new_privileges": 1, "writable": ["/state", "/tmp"], "somaxconn": 4096, "tools": []
    }  # fmt: skip


def test_load_from_two_workers_inside_the_network_reaches_the_model_that_is_chosen(up):
    for model in MODELS:
        up.swarm("KeepAliveUser", model=model)
        promql = f'sum(lab_requests_total{{model="{model}",code="200"}}) > 100'
        reached = eventually(lambda promql=promql: up.query(promql), 30)
        up.stop_swarm()
        assert reached, model
    # Each load is a run with series of its own, which end with it.
    runs = "max_over_time({}[10m])".format
    assert up.query(f"sum({runs('locust_requests_total')}) > 500")
    failures = f"sum({runs('locust_failures_total')}) + sum({runs('locust_connect_failures_total')})"
    assert up.query(failures)[0]["value"][1] == "0"
    assert len(up.query("locust_worker_cpu_ratio")) == WORKERS


def test_loads_of_the_page_and_of_the_command_line_are_marked_kept_and_in_prometheus(up, engine, annotations):
    up.swarm("KeepAliveUser", model="nginx")
    assert eventually(lambda: up.query('sum(locust_requests_total{model="nginx"}) > 100'), 30)
    up.stop_swarm()
    done = up.make("load", "MODEL=memcached", "USERS=3", "TIME=3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert eventually(
        lambda: up.query('max_over_time(locust_requests_total{job="loads",model="memcached"}[5m]) > 0'), 10
    )

    def kept() -> set[str]:
        runs = json.loads(engine.docker(*COMPOSE_RUN, "lab", "results", "list", "--json"))
        return {run["run"].partition("load-")[2] for run in runs if run["kind"] == "load"}

    def marked() -> set[str]:
        return {mark["tags"][2] for mark in annotations() if mark["tags"][1] == "load"}

    assert eventually(lambda: kept() >= {"nginx", "memcached"}, 30), kept()
    assert eventually(lambda: marked() >= {"nginx", "memcached"}, 10), annotations()


def test_load_of_the_command_line_is_made_inside_the_network(up):
    done = up.make("load", "MODEL=memcached", "USERS=3", "TIME=2")
    assert done.returncode == 0, done.stdout + done.stderr
    # Not at its published port, where it would be Docker's proxy that accepts.
    assert "Load on memcached (memcached:8002)" in done.stdout


def test_every_models_metrics_are_in_prometheus(up):
    def found() -> set[tuple[str, str]]:
        return {(row["metric"]["job"], row["metric"]["instance"]) for row in up.query("up == 1")}

    assert eventually(lambda: found() == {*(("models", model) for model in MODELS), ("locust", "locust")}), found()
    for metric in METRICS:
        assert eventually(lambda metric=metric: up.models_with(metric) == set(MODELS), 10), metric
    assert {row["metric"]["scope"] for row in up.query("lab_netstat_total")} == {"model"}


def test_status_tells_state_health_and_cost(up):
    assert eventually(lambda: up.lab("status").returncode == 0), up.lab("status")  # what was killed comes back
    done = up.lab("status", "--json")
    parts = {part["name"]: part for part in json.loads(done.stdout)}
    for name in (*RUNNING, "locust-worker"):
        part = parts[name]
        assert (part["place"], part["state"], part["health"]) == ("containers", "running", "ok"), name
        assert part["pid"] > 0
        assert part["memory_bytes"] > 2**20, name
    assert parts["grafana"]["state"] == "absent"
    assert "LAB_GRAFANA_IMAGE" in parts["grafana"]["detail"]


def test_changed_option_makes_only_its_model_anew(up, engine):
    before = started(engine)
    changed = {"lab_model_options": {model: {"wakeup": "herd"} if model == "nginx" else {} for model in MODELS}}
    done = up.up_down("up", "containers", ["--extra-vars", json.dumps(changed)])
    assert done.returncode == 0, done.stdout + done.stderr
    after = started(engine)
    assert {name for name in after if before.get(name) != after[name]} == {f"/{PROJECT}-nginx-1"}
    options = up.state("nginx")["options"]
    assert (options["wakeup"], options["workers"], options["backlog"]) == ("herd", 4, 128)


def test_set_changes_a_running_model_in_its_container(up, engine):
    before = started(engine)
    done = up.lab("set", "nginx", "workers=2", "wakeup=mutex")
    assert done.stdout == "nginx now runs with --workers 2 --wakeup mutex\n", done.stderr
    found = up.state("nginx")
    assert (len(found["workers"]), found["options"]["wakeup"]) == (2, "mutex")
    assert started(engine) == before
    refused = up.lab("set", "nginx", "workers=none")
    assert (refused.returncode, refused.stderr) == (2, "lab: nginx: --workers 'none' is not a whole number\n")


def test_paused_model_answers_nobody_until_it_is_resumed(up):
    assert "lab chaos resume nodejs" in up.lab("chaos", "pause", "nodejs").stdout
    with pytest.raises(httpx.ReadTimeout):
        plain_http.get(f"http://127.0.0.1:{up.port('nodejs')}/", timeout=httpx.Timeout(10, read=1), trust_env=False)
    assert up.state("nodejs")["model"] == "nodejs"  # who watches it is spared
    assert up.lab("chaos", "resume", "nodejs").returncode == 0
    assert plain_http.get(f"http://127.0.0.1:{up.port('nodejs')}/", timeout=10, trust_env=False).status_code == 200


def test_killed_worker_and_killed_model_are_replaced(up, engine):
    workers = {worker["pid"] for worker in up.state("reuseport")["workers"]}
    assert up.lab("chaos", "kill", "reuseport", "--worker", "1").returncode == 0
    assert eventually(lambda: len({worker["pid"] for worker in up.state("reuseport")["workers"]} - workers) == 1)
    restarts = inspect(engine, "reuseport")["RestartCount"]
    done = up.lab("chaos", "kill", "reuseport")
    assert done.returncode == 0, done.stderr
    assert eventually(lambda: inspect(engine, "reuseport")["RestartCount"] == restarts + 1)
    assert eventually(lambda: serves(up.port("reuseport")))
    assert eventually(lambda: up.query('up{instance="reuseport"} == 1'))


def test_stopped_model_can_be_neither_set_nor_hurt_and_up_brings_it_back(up, engine):
    engine.docker("stop", f"{PROJECT}-memcached-1")
    for command in (("set", "memcached", "workers=2"), ("chaos", "pause", "memcached")):
        done = up.lab(*command)
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert "memcached does not run here" in line
    done = up.lab("status")
    assert done.returncode == 1
    assert "not well: memcached" in done.stdout
    engine.docker("rm", "--force", f"{PROJECT}-prometheus-1")
    before = started(engine)
    assert up.make("lab-up").returncode == 0
    after = started(engine)
    lost = {f"/{PROJECT}-memcached-1", f"/{PROJECT}-prometheus-1"}
    changed = {name for name in after if before.get(name) != after[name]}
    # Options that an earlier test has changed are again those of group_vars.
    assert lost <= changed <= {*lost, f"/{PROJECT}-nginx-1"}


@pytest.fixture
def annotations(up, engine) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What Grafana was told: a fake, where Compose would have it."""
    name, support = f"{PROJECT}-fake-grafana", settings.CHECKOUT / "tests" / "support"
    engine.docker(
        "run", "--detach", "--name", name, "--network", f"{PROJECT}_default", "--network-alias", "grafana",
        "--volume", f"{support}:/support:ro", "--workdir", "/support", PYTHON_IMAGE, "python3", "-c", FAKE_GRAFANA,
    )  # fmt: skip
    try:
        yield lambda: [json.loads(line) for line in engine.docker("logs", name).splitlines()]
    finally:
        engine.docker("rm", "--force", name)


def test_experiment_runs_in_its_container_without_a_capability(engine, annotations):
    document = document_of(engine, *COMPOSE_RUN, "lab", "run", "busiest-worker", "--quick", "--json")
    assert_measured(document)
    (region,) = annotations()
    assert region["tags"] == ["lab", "experiment", "busiest-worker", document["verdict"]]
    assert region["time"] < region["timeEnd"]


def document_of(engine: Engine, *command: str) -> dict[str, Any]:
    """What a run printed. Its verdict, and so its exit code, may be any: other tests may run beside it."""
    document = json.loads(engine.docker(*command, check=False))
    assert document["verdict"] in {"holds", "fails", "inconclusive"}
    return document


def assert_measured(document: dict[str, Any]) -> None:
    """What `busiest-worker` cannot do without."""
    assert all(arm["metrics"]["accepted"]["median"] in {300, 1200} for arm in document["arms"])


def test_lab_killed_in_its_container_leaves_nothing_there_and_can_run_again(up, engine):
    """The container's main process is another, as in that of the page: it would end with `lab` otherwise."""
    command = ("python", "-m", "lab", "run", "busiest-worker", "--quick", "--json")
    name = f"{PROJECT}-killed"
    engine.docker(*COMPOSE_RUN, "--detach", "--name", name, "--entrypoint", "sleep", "lab", "600")
    try:
        before, outside = traces(engine, name), namespaces(processes(engine, name))
        with docker_exec(engine, name, *command) as run:
            inside = eventually(lambda: stopped_while_measuring(engine, name, outside), 60)
            assert inside, run.communicate()
            (lab,) = [pid for pid, words in processes(engine, name).items() if words == " ".join(command)]
            os.kill(lab, signal.SIGKILL)
            assert run.wait(60) == 128 + signal.SIGKILL
        eventually(lambda: traces(engine, name) == before, 10)
        assert traces(engine, name) == before
        assert eventually(lambda: not inside & namespaces(psutil.pids()), 10)
        assert_measured(document_of(engine, "exec", name, *command))
    finally:
        engine.docker("rm", "--force", name)


@contextlib.contextmanager
def docker_exec(engine: Engine, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        ["docker", "exec", *arguments], env={**os.environ, **engine.variables},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as running:  # fmt: skip
        try:
            yield running
        finally:
            running.kill()


def processes(engine: Engine, name: str) -> dict[int, str]:
    """The processes of a container by the pids that they have on this machine, with their words."""
    _, *lines = engine.docker("top", name, "-o", "pid,args").splitlines()
    return {int(pid): words for pid, words in (line.split(maxsplit=1) for line in lines)}


def namespaces(pids: Iterable[int]) -> set[str]:
    """Those that the processes live in."""
    found = set()
    for pid, kind in itertools.product(pids, ("net", "user", "mnt", "pid")):
        with contextlib.suppress(OSError):  # it has ended
            found.add(str(Path(f"/proc/{pid}/ns/{kind}").readlink()))
    return found


def stopped_while_measuring(engine: Engine, name: str, outside: set[str]) -> set[str]:
    """The namespaces of an experiment whose servers run; or else none.

    Its processes are stopped, since an experiment as short as this one would soon end by itself: what is gone then has
    been killed.
    """
    sandbox = {pid: words for pid, words in processes(engine, name).items() if namespaces([pid]) - outside}
    if not any("services nginx" in words for words in sandbox.values()):
        return set()
    for pid in sandbox:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    return namespaces(sandbox) - outside


def traces(engine: Engine, name: str) -> dict[str, set[str]]:
    """What an experiment could leave in its container, or on this machine."""
    commands = {
        "files": "find /tmp; find /state -path /state/results -prune -o -type f -print",
        "interfaces": "ip -brief link",
        "mounts": "cat /proc/self/mounts",
    }
    found = {what: set(engine.docker("exec", name, "sh", "-c", done).splitlines()) for what, done in commands.items()}
    words = set(processes(engine, name).values())
    return {**found, "processes": words, "interfaces outside": {path.name for path in Path("/sys/class/net").iterdir()}}


def test_experiment_runs_in_the_container_of_the_page(up, engine, annotations):
    """The command that the page's button starts. The report is where the page looks for it."""
    document_of(engine, "exec", f"{PROJECT}-console-1", "python", "-m", "lab", "run", "handshake", "--quick", "--json")
    listed = engine.docker("exec", f"{PROJECT}-console-1", "sh", "-c", "ls /state/results/*-handshake/report.html")
    assert listed.strip()
    name = listed.split()[-1].split("/")[3]
    page = plain_http.get(f"http://127.0.0.1:{up.port('console')}/results/{name}/report.html", trust_env=False)
    assert page.status_code == 200
    assert "Who completes the handshake" in page.text
    (seen,) = up.query('last_over_time(lab_experiment_progress_ratio{experiment="handshake"}[5m])')
    assert (seen["metric"]["job"], seen["metric"]["instance"]) == ("experiments", "console")
    assert [region["tags"][1:3] for region in annotations()] == [["experiment", "handshake"]]


def test_down_leaves_no_container_network_volume_or_port(up, engine):
    done = up.make("lab-down")
    assert done.returncode == 0, done.stdout + done.stderr
    assert_nothing_left(up, engine)
    again = up.make("lab-down")
    assert again.returncode == 0, again.stdout + again.stderr


def test_up_that_was_interrupted_at_its_beginning_leaves_nothing(stack, engine):
    go_down(stack, engine)
    folder = stack.folder / "containers"
    shutil.rmtree(folder, ignore_errors=True)
    done = stack.interrupted_up(signal.SIGINT, folder.exists)  # preflight has made it
    assert_interrupted(done)
    assert_nothing_left(stack, engine)


def test_up_that_was_killed_half_way_can_be_taken_down(stack, engine):
    go_down(stack, engine)
    stack.interrupted_up(signal.SIGKILL, lambda: engine.names("ps", "--all"))
    # Ansible's own helpers may outlive it by a moment, and hold the lock.
    assert eventually(lambda: stack.make("lab-down", PLACE="auto").returncode == 0)
    assert_nothing_left(stack, engine)


@pytest.mark.nightly
def test_compose_alone_gives_the_stack_and_down_finds_it(stack, engine):
    """With a stand-in for Grafana, which shows what it was given."""
    go_down(stack, engine)
    environment = {**stack.environment, "LAB_GRAFANA_IMAGE": GRAFANA_IMAGE}
    done = subprocess.run(
        ["docker", "compose", "up", "--detach"], cwd=settings.CHECKOUT, env=environment,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for part in (*RUNNING, "grafana"):
        assert eventually(lambda part=part: accepts(stack.port(part))), part
    assert eventually(lambda: len(stack.query("up == 1")) == len(MODELS) + 1)
    page = plain_http.get(f"http://127.0.0.1:{stack.port('grafana')}/", trust_env=False).text
    assert "disable_initial_admin_creation = true" in page
    variables = dict(line.split("=", 1) for line in inspect(engine, "grafana")["Config"]["Env"])
    # Empty variables leave grafana.ini as it is, and that makes no administrator.
    assert variables["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == variables["GF_SECURITY_ADMIN_PASSWORD"] == ""
    assert stack.make("lab-down", PLACE="auto").returncode == 0
    assert_nothing_left(stack, engine)


def test_auto_takes_containers_where_an_engine_answers(stack, engine):
    go_down(stack, engine)
    code = "from lab.stack import up_down; print(up_down.choose('auto'))"
    choose = [sys.executable, "-c", code]
    done = subprocess.run(choose, cwd=settings.CHECKOUT, env=stack.environment, capture_output=True, text=True)
    assert done.stdout == "containers\n", done.stderr
    nowhere = {**stack.environment, "DOCKER_HOST": f"unix://{stack.folder}/none.sock"}
    done = subprocess.run(choose, cwd=settings.CHECKOUT, env=nowhere, capture_output=True, text=True)
    assert done.stdout == "local\n", done.stderr


@pytest.mark.nightly
def test_up_goes_on_where_it_was_interrupted_half_way(stack, engine):
    go_down(stack, engine)
    done = stack.interrupted_up(signal.SIGINT, lambda: engine.names("ps"))
    assert "lab: interrupted" in done.stderr
    assert eventually(lambda: stack.make("lab-up").returncode == 0)
    assert stack.lab("status").returncode == 0
