"""The vms place on a real Debian: provisioned over SSH from here, by the playbook that serves every place.

`make test-vms`; it takes about half an hour, since the machine is emulated. The tests share one machine and go
from an empty host to an empty host, in this order.
"""

from __future__ import annotations

import fcntl
import functools
import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support import stack
from support.stack import free_ports
from support.vm import GUEST, HOST_AS_SEEN_FROM_THE_GUEST, Vm, accepts, cache, image

from lab import settings
from lab.stack import bundle
from services.options import MODELS

pytestmark = [pytest.mark.vms, pytest.mark.timeout(3600)]

SERVICES = {name: port.default for name, port in settings.SERVICE_PORTS.items()}
ADMINS = {name: port.default for name, port in settings.ADMIN_PORTS.items()}
PROMETHEUS, LOCUST, CONSOLE = settings.PROMETHEUS.default, settings.LOCUST.default, settings.CONSOLE.default
PARTS = (*MODELS, "prometheus", "locust", "locust-worker-1", "locust-worker-2", "console", "firewall")
EXPOSURE_AT_MOST = 40
"""In tenths, as systemd-analyze takes it."""
UP_SECONDS = 1500

# What the distribution's own tools and the system's running leave behind, lab or no lab.
NOT_OURS = re.compile(
    r"^/(proc|sys|dev|run|tmp|boot|lost\+found|var/(log|cache|tmp|backups)|var/lib/(apt|dpkg|systemd|ucf|python)"
    r"|etc/(ld\.so\.cache|\S+-|\.pwd\.lock|machine-id)|root/\.(ssh|cache|bash_history))\b"
    r"|/etc/(passwd|group|shadow|gshadow|subuid|subgid)-?$|/__pycache__(/|$)"
)


eventually = functools.partial(stack.eventually, seconds=120.0)
"""Longer than elsewhere: the machine is emulated."""


class Lab:
    """The lab's commands, on an inventory with the machine in all three groups."""

    def __init__(self, vm: Vm, folder: Path, wheels: str) -> None:
        self.state_dir, self.inventory = folder / "state", folder / "hosts.yml"
        host = {
            "ansible_host": "127.0.0.1",
            "ansible_port": vm.forwards[22],
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(vm.image.key),
            "ansible_ssh_common_args": " ".join(vm.ssh_options),
            "lab_pip_arguments": [
                "--no-index",
                f"--find-links={wheels}",
                "--trusted-host",
                HOST_AS_SEEN_FROM_THE_GUEST,
            ],
            "lab_visitors": [HOST_AS_SEEN_FROM_THE_GUEST],
            # An emulated machine would do nothing else than being scraped each second.
            "lab_scrape_interval": "5s",
            "lab_console_idle_interval": 10,
            "lab_server_options": {"workers": 2, "backlog": 128},
            "lab_locust_workers_per_host": 2,
        }
        groups = ("models", "observability", "loadgen")
        # JSON is YAML, too.
        self.inventory.write_text(json.dumps({group: {"hosts": {"vm": host}} for group in groups}))

    @property
    def _environment(self) -> dict[str, str]:
        outer = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}}
        return {**outer, "LAB_STATE_DIR": str(self.state_dir), "LAB_INVENTORY": str(self.inventory)}

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._run("make", *arguments, "PLACE=vms")

    def interrupt_up(self, vm: Vm, moment: str, number: signal.Signals) -> int:
        """Send a signal to everything that `lab up` started here as soon as the command `moment` succeeds on the guest."""
        command = [Path(sys.executable).with_name("lab"), "up", "--place", "vms"]
        log = self.state_dir.with_name("interrupted.log")
        with log.open("w") as output:
            running = subprocess.Popen(
                command, cwd=settings.CHECKOUT, env=self._environment, stdin=subprocess.DEVNULL, stdout=output,
                stderr=output, start_new_session=True,
            )  # fmt: skip
        while vm.try_ssh(moment).returncode != 0:
            assert running.poll() is None, f"it has ended before `{moment}`:\n{log.read_text()}"
        os.killpg(running.pid, number)
        ended = running.wait(120)
        # The task at work may be the last, which waits on the guest until every part answers.
        assert eventually(self._is_free, seconds=UP_SECONDS), log.read_text()
        return ended

    def _is_free(self) -> bool:
        """Whether all of Ansible has ended: the task at work outlives a kill of the others, and holds the lock."""
        with (self.state_dir / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    def up(self, *extra: str) -> subprocess.CompletedProcess[str]:
        """`lab up` with more arguments for Ansible."""
        code = f"import sys; from lab.stack import up_down; sys.exit(up_down.up('vms', {extra!r}))"
        return self._run(sys.executable, "-c", code)

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=settings.CHECKOUT, env=self._environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=UP_SECONDS, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _tools(require_tool) -> None:
    for tool in ("qemu-system-x86_64", "qemu-img", "setpriv", "ssh", "make"):
        require_tool(tool)


@pytest.fixture(scope="module")
def vm(tmp_path_factory, _tools) -> Iterator[Vm]:
    ports = [22, *SERVICES.values(), *ADMINS.values(), PROMETHEUS, LOCUST, CONSOLE]
    machine = Vm(image(), tmp_path_factory.mktemp("vm"), dict(zip(ports, free_ports(len(ports)), strict=True)))
    try:
        machine.start()
        yield machine
    finally:
        machine.stop()


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> Iterator[str]:
    """The packages that the host needs, as this machine has them: its registries may be none of the guest's."""
    folder = cache() / "wheels"
    listed = tmp_path_factory.mktemp("wheels") / "requirements.txt"
    wanted = bundle.requirements("servers") | bundle.requirements("page")
    listed.write_bytes(b"".join(wanted.values()))
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--dest", folder,
         "--constraint", settings.CHECKOUT / "constraints.txt", "--requirement", listed],
        check=True, timeout=600,
    )  # fmt: skip
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{HOST_AS_SEEN_FROM_THE_GUEST}:{server.server_port}/"
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def lab(vm, wheels, tmp_path_factory) -> Lab:
    return Lab(vm, tmp_path_factory.mktemp("lab"), wheels)


@pytest.fixture(scope="module")
def traces_before(vm) -> dict[str, set[str]]:
    return traces(vm)


@pytest.fixture(scope="module")
def interrupted(vm, lab) -> dict[str, int]:
    """Runs that ended at the worst of times, on a host without the lab, with what each returned."""
    moments = {
        "pgrep -x dpkg": signal.SIGKILL,
        "pgrep -f '[w]hl/pip install'": signal.SIGINT,
        "systemctl is-active accept-lab-nodejs": signal.SIGKILL,
    }
    return {moment: lab.interrupt_up(vm, moment, number) for moment, number in moments.items()}


@pytest.fixture(scope="module")
def first_up(lab, traces_before) -> subprocess.CompletedProcess[str]:
    """The first run, on a host that the lab has never seen."""
    done = lab.make("lab-up")
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def traces(vm: Vm) -> dict[str, set[str]]:
    """Everything that a host could be left with."""
    commands = {
        "files": "find / -xdev",
        "users": "cut -d : -f 1 /etc/passwd /etc/group",
        "packages": "dpkg-query -W -f '${Package}\\n'",
        "sysctls": "grep . /proc/sys/net/core/somaxconn /proc/sys/net/ipv4/tcp_max_syn_backlog "
        "/proc/sys/net/ipv4/ip_local_port_range",
        "ports": "ss -Htln | awk '{print $4}'",
        "units": "systemctl list-unit-files --no-legend --plain | awk '{print $1, $2}'; "
        "systemctl list-units --all --no-legend --plain 'accept-lab*'",
        "processes": "ps -eo user= | sort -u",
    }
    found = {what: set(vm.ssh(command).splitlines()) for what, command in commands.items()}
    found["files"] = {path for path in found["files"] if not NOT_OURS.search(path)}
    return found


def url(vm: Vm, port: int) -> str:
    return f"http://127.0.0.1:{vm.forwards[port]}"


def query(vm: Vm, promql: str) -> list[dict[str, Any]]:
    try:
        answer = httpx.get(
            f"{url(vm, PROMETHEUS)}/api/v1/query", params={"query": promql}, trust_env=False, timeout=30
        ).raise_for_status()
    except httpx.HTTPError:
        return []
    return answer.json()["data"]["result"]


def unit(part: str) -> str:
    return f"accept-lab-{part}.service"


def main_pids(vm: Vm) -> dict[str, str]:
    # One answer a unit, with an empty line between them: each call over SSH takes seconds.
    answers = vm.ssh(f"systemctl show --value -p MainPID {' '.join(map(unit, PARTS))}").split()
    return dict(zip(PARTS, answers, strict=True))


def active(vm: Vm) -> set[str]:
    states = vm.try_ssh(f"systemctl is-active {' '.join(map(unit, PARTS))}").stdout.split()
    return {part for part, state in zip(PARTS, states, strict=False) if state == "active"}


def all_models_answer(vm: Vm) -> bool:
    try:
        answers = {
            httpx.get(url(vm, port), trust_env=False, timeout=30).headers["X-Model"] for port in SERVICES.values()
        }
    except (httpx.HTTPError, KeyError):
        return False
    return answers == set(MODELS)


def test_up_brings_up_every_part_and_says_where(vm, first_up):
    for part, port in {**SERVICES, "prometheus": PROMETHEUS, "locust": LOCUST}.items():
        assert re.search(rf"^ *{part} +http://{GUEST}:{port}$", first_up.stdout, re.MULTILINE), first_up.stdout
    assert re.search(rf"^ *console +http://127\.0\.0\.1:{CONSOLE}$", first_up.stdout, re.MULTILINE), first_up.stdout
    assert f"ssh -N -L {CONSOLE}:127.0.0.1:{CONSOLE} -p {vm.forwards[22]} root@127.0.0.1" in first_up.stdout
    assert "Grafana is left out" in first_up.stdout
    assert active(vm) == set(PARTS)
    assert all_models_answer(vm)


@pytest.fixture
def live_page(vm, first_up) -> Iterator[str]:
    """The live page's address, through the tunnel that `lab up` suggests."""
    port = free_ports(1)[0]
    address = f"http://127.0.0.1:{port}"
    with vm.tunnel(port, CONSOLE):
        assert eventually(lambda: live(address))
        yield address


def live(address: str) -> dict[str, Any]:
    try:
        return (
            httpx.get(f"{address}/live.json", trust_env=False, timeout=60).raise_for_status().json().get("models", {})
        )
    except httpx.HTTPError:
        return {}


def test_live_page_sees_every_model_and_leads_to_where_the_others_are(vm, live_page):
    assert eventually(lambda: {name for name, model in live(live_page).items() if model["up"]} == set(MODELS))
    text = httpx.get(live_page, trust_env=False, timeout=60).raise_for_status().text
    for port in (PROMETHEUS, LOCUST):
        assert f"http://{GUEST}:{port}/" in text
    vm.ssh(f"systemctl stop {unit('ramcloud')}")
    try:
        assert eventually(lambda: not live(live_page).get("ramcloud", {"up": True})["up"])
        assert "journalctl -u accept-lab-ramcloud" in live(live_page)["ramcloud"]["remedy"]
    finally:
        vm.ssh(f"systemctl start {unit('ramcloud')}")
    assert eventually(lambda: live(live_page)["ramcloud"]["up"])


def test_live_page_listens_where_only_a_login_leads(vm, first_up):
    assert not accepts(vm.forwards[CONSOLE])
    assert vm.ssh(f"ss -Htln sport = :{CONSOLE} | awk '{{print $4}}'").split() == [f"127.0.0.1:{CONSOLE}"]


def test_load_is_started_from_the_live_page(vm, live_page, browser):
    page = browser.new_page()
    page.set_default_timeout(240_000)
    page.goto(f"{live_page}/model/reuseport")
    page.get_by_role("button", name="Try it").click()
    drawer = page.get_by_role("group", name="Try it")
    drawer.get_by_role("spinbutton", name="Users").fill("5")
    drawer.get_by_role("spinbutton", name="For (s)").fill("60")
    drawer.get_by_role("spinbutton", name="workers").fill("3")
    drawer.get_by_text('lab_model_options: {"reuseport": {"workers": 3}}', exact=True).wait_for()
    assert not drawer.get_by_role("button", name="Apply").is_visible()
    drawer.get_by_role("button", name="Start").click()
    drawer.get_by_text(re.compile("5 users on reuseport")).wait_for()
    assert eventually(lambda: query(vm, 'sum(lab_requests_total{model="reuseport",code="200"}) > 50'))
    drawer.get_by_role("button", name="Stop").click()
    drawer.get_by_text("stopped", exact=True).wait_for()
    page.screenshot(path=cache() / "vms-page.png")
    page.close()


def test_second_up_changes_nothing(vm, lab, first_up):
    before = main_pids(vm)
    done = lab.make("lab-up")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^vm: .*changed=0 ", done.stdout, re.MULTILINE), done.stdout
    assert main_pids(vm) == before


def test_prometheus_scrapes_every_part_that_ansible_wrote_down(vm, first_up):
    expected = {*(("models", model) for model in MODELS), ("locust", "locust")}

    def seen() -> set[tuple[str, str]]:
        return {(row["metric"]["job"], row["metric"]["instance"]) for row in query(vm, "up == 1")}

    assert eventually(lambda: seen() == expected), seen()


def test_metrics_are_complete_and_show_memory_behind_the_hardening(vm, first_up, tmp_path):
    for model, text in metrics(vm).items():
        families = {family.name: family for family in text_string_to_metric_families(text)}
        memory = {sample.labels["kind"]: sample.value for sample in families["lab_worker_memory_bytes"].samples
                  if sample.labels["worker"] == "main"}  # fmt: skip
        assert min(memory.values()) > 1 << 20, (model, memory)
        assert {sample.value for sample in families["lab_accept_queue_limit"].samples} == {128}
        assert max(sample.value for sample in families["lab_worker_cpu_seconds"].samples) > 0
        assert families.keys() == own_families(model), model


def metrics(vm: Vm) -> dict[str, str]:
    """What each model's admin port says on the guest, the only one that may ask."""
    code = (
        "import json, sys, urllib.request as u; "
        f"print(json.dumps([u.urlopen(f'http://{GUEST}:{{port}}/metrics').read().decode() for port in sys.argv[1:]]))"
    )
    texts = json.loads(vm.ssh(f'python3 -c "{code}" {" ".join(map(str, ADMINS.values()))}'))
    return dict(zip(ADMINS, texts, strict=True))


@functools.cache
def own_families(model: str) -> set[str]:
    """What the same server shows on this machine, where nothing confines it."""
    from support.servers import end_server, start_server

    server = start_server(cache() / "logs", model, "--workers", "2")
    try:
        text = httpx.get(f"{server.admin}/metrics", trust_env=False).text
    finally:
        end_server(server)
    return {family.name for family in text_string_to_metric_families(text)}


def test_admin_ports_are_open_to_the_observability_group_only(vm, first_up):
    """From here packets reach the guest from another address than its own, the only one of that group."""
    assert all(accepts(vm.forwards[port]) for port in SERVICES.values())
    assert accepts(vm.forwards[PROMETHEUS])  # as one of lab_visitors
    assert not any(accepts(vm.forwards[port]) for port in ADMINS.values())
    vm.ssh("nft flush chain inet accept_lab guard_1")
    try:
        assert all(accepts(vm.forwards[port]) for port in ADMINS.values())  # it was the rules that kept us out
    finally:
        vm.ssh("systemctl reload accept-lab-firewall")
    assert not any(accepts(vm.forwards[port]) for port in ADMINS.values())


def test_units_are_hardened(vm, first_up):
    # A line a unit: systemd-analyze refuses one that is more exposed than the threshold.
    answer = vm.ssh(
        f"for unit in {' '.join(map(unit, PARTS))}; do"
        f" systemd-analyze security --threshold={EXPOSURE_AT_MOST} $unit | grep Overall || exit; done"
    )
    print(answer)
    levels = [float(level) for level in re.findall(r"exposure level for accept-lab-\S+: ([0-9.]+)", answer)]
    assert len(levels) == len(PARTS), answer
    assert max(levels) <= EXPOSURE_AT_MOST / 10, answer


def test_load_is_spread_over_the_workers_of_locust(vm, first_up):
    form = {"user_count": 4, "spawn_rate": 4, "host": "", "user_classes": "KeepAliveUser", "model": "nginx"}
    answer = httpx.post(f"{url(vm, LOCUST)}/swarm", data=form, trust_env=False, timeout=60)
    assert answer.raise_for_status().json()["success"], answer.text
    try:
        assert eventually(lambda: query(vm, 'sum(lab_requests_total{model="nginx",code="200"}) > 50'))
        assert eventually(lambda: len(query(vm, "locust_worker_cpu_ratio > 0")) == 2)
    finally:
        httpx.post(f"{url(vm, LOCUST)}/stop", trust_env=False, timeout=60).raise_for_status()


def test_killed_model_is_started_again(vm, first_up):
    before = main_pids(vm)["memcached"]
    vm.ssh(f"kill -9 {before}")
    assert eventually(lambda: main_pids(vm)["memcached"] not in {"0", before})
    assert eventually(lambda: all_models_answer(vm))


def test_stopped_model_answers_what_it_has_begun(vm, first_up):
    port = SERVICES["nginx"]
    begun = threading.Event()
    answers: list[bytes] = []

    def ask() -> None:
        with socket.create_connection(("127.0.0.1", vm.forwards[port]), timeout=120) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: guest\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
            client.sendall(b"GET /work?block=5s HTTP/1.1\r\nHost: guest\r\n\r\n")
            begun.set()
            answers.append(client.recv(4096))

    client = threading.Thread(target=ask)
    client.start()
    assert begun.wait(120)
    try:
        vm.ssh(f"sleep 1; systemctl stop {unit('nginx')}")
        client.join(120)
        assert answers[0].startswith(b"HTTP/1.1 200"), answers
        assert vm.ssh(f"systemctl show --value -p Result {unit('nginx')}").strip() == "success"
        assert not accepts(vm.forwards[port])
    finally:
        vm.ssh(f"systemctl start {unit('nginx')}")
    assert eventually(lambda: all_models_answer(vm))


def test_rules_come_back_when_the_hosts_own_are_read_again(vm, first_up):
    """Debian's /etc/nftables.conf begins with `flush ruleset`, and stopping the service is one, too."""
    before = main_pids(vm)
    for action in ("start", "reload", "restart", "stop"):
        vm.ssh(f"systemctl {action} nftables")
        assert eventually(lambda: vm.try_ssh("nft list table inet accept_lab").returncode == 0), action
        assert not any(accepts(vm.forwards[port]) for port in ADMINS.values()), action
    assert main_pids(vm) == before


def test_check_mode_says_what_would_change_and_changes_nothing(vm, lab, first_up):
    before = main_pids(vm)
    done = lab.up("--check", "--extra-vars", json.dumps({"lab_model_options": {"nginx": {"wakeup": "herd"}}}))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"accept-lab-(\w+)\.service: would be written", done.stdout) == ["nginx"]
    assert main_pids(vm) == before


def test_edit_of_the_page_restarts_nothing_else(vm, lab, first_up):
    before = main_pids(vm)
    page = "/opt/accept-lab/page"
    # As after an edit: other bytes are there than those of this checkout.
    vm.ssh(f"echo >>{page}/source.tar.gz; rm {page}/source/.unpacked-*")
    done = lab.make("lab-up")
    assert done.returncode == 0, done.stdout + done.stderr
    after = main_pids(vm)
    assert {part for part in PARTS if before[part] != after[part]} == {"console"}


def test_changed_option_restarts_only_the_model_that_it_concerns(vm, lab, first_up):
    before = main_pids(vm)
    done = lab.up("--extra-vars", json.dumps({"lab_model_options": {"nginx": {"wakeup": "herd"}}}))
    assert done.returncode == 0, done.stdout + done.stderr
    after = main_pids(vm)
    assert {part for part in PARTS if before[part] != after[part]} == {"nginx"}
    assert "--wakeup=herd" in vm.ssh(f"tr '\\0' ' ' </proc/{after['nginx']}/cmdline")


def test_reboot_brings_everything_back(vm, first_up):
    vm.ssh("systemctl --quiet enable nftables")  # whose flush must come before our rules
    vm.reboot()
    assert vm.ssh("systemctl is-active nftables; systemctl --quiet disable --now nftables") == "active\n"
    assert eventually(lambda: active(vm) == set(PARTS))
    assert eventually(lambda: all_models_answer(vm))
    assert vm.ssh("cat /proc/sys/net/core/somaxconn").strip() == "65535"
    assert not any(accepts(vm.forwards[port]) for port in ADMINS.values())


def test_down_stops_everything_also_over_a_reboot(vm, lab, first_up):
    done = lab.make("lab-down")
    assert done.returncode == 0, done.stdout + done.stderr
    assert active(vm) == set()
    # Where there is none, systemctl fails.
    enabled = vm.ssh("systemctl list-unit-files --no-legend --state=enabled 'accept-lab*' || true")
    assert enabled == ""
    assert "accept_lab" not in vm.ssh("nft list tables")


def test_removal_leaves_nothing(vm, lab, first_up, traces_before):
    done = lab.make("lab-down", "REMOVE=yes")
    assert done.returncode == 0, done.stdout + done.stderr
    after = traces(vm)
    assert {what: found - traces_before[what] for what, found in after.items() if found - traces_before[what]} == {}
    assert {what: found - after[what] for what, found in traces_before.items() if found - after[what]} == {}
    again = lab.make("lab-down", "REMOVE=yes")
    assert "changed=0" in again.stdout


def test_interrupted_runs_end_at_once(interrupted):
    assert list(interrupted.values()) == [-signal.SIGKILL, 2, -signal.SIGKILL]


def test_up_and_removal_recover_from_interrupted_runs(vm, lab, interrupted, traces_before):
    done = lab.make("lab-up")
    assert done.returncode == 0, done.stdout + done.stderr
    assert active(vm) == set(PARTS)
    done = lab.make("lab-down", "REMOVE=yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert traces(vm) == traces_before
