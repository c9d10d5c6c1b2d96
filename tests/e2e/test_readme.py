"""The README's commands, in its order, on a stack of the test's own."""

from __future__ import annotations

import re
import signal
import subprocess

import pytest
from support.stack import Stack, free_ports
from support.tools import require_tool

from lab import settings

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

README = (settings.CHECKOUT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.partition("  #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
]
WAITED_SECONDS = 4
"""Longer than a busy machine makes anybody wait."""
IN_FOREGROUND = ("lab serve",)
THIS_VERY_RUN = ("make test",)
FOR_A_BUSY_MACHINE = {
    "block=2s": f"block={2 * WAITED_SECONDS}s",
    "USERS=50 TIME=20s": "USERS=10 TIME=5s",  # fifty keep a slow core so busy that their figures mean nothing: exit code 3
    "nc 127": "nc -q 10 127",  # else nc would wait for its own standard input
}


def moved(command: str, stack: Stack) -> str:
    """The command with the default ports replaced by the stack's, and with more time."""
    for port in settings.PORTS:
        command = re.sub(rf"\b{port.default}\b", str(stack.ports[port.variable]), command)
    for text, replacement in FOR_A_BUSY_MACHINE.items():
        command = command.replace(text, replacement)
    return command


def run(command: str, stack: Stack) -> str:
    done = subprocess.run(
        ["bash", "-c", f"{command}\ncode=$?\nwait\nexit $code"], cwd=settings.CHECKOUT, env=stack.environment,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    said = f"{command}\n{done.stdout}\n{done.stderr}"
    experiment = re.search(r"lab run (\S+)", command)
    if experiment:  # on a busy machine any verdict, and its exit code
        assert re.search(rf"^{experiment[1]}: (holds|fails|inconclusive)$", done.stdout, re.MULTILINE), said
        words = {"holds": "0", "fails": "1", "inconclusive": "3"}
        code = done.stdout.split()[-1] if command.endswith("; echo $?") else str(done.returncode)
        assert code == words[re.search(rf"^{experiment[1]}: (\w+)$", done.stdout, re.MULTILINE)[1]], said
    else:
        assert done.returncode == 0, said
    return done.stdout


def serve(command: str, stack: Stack) -> None:
    service, admin = free_ports(2)
    words = command.replace("8000", str(service)).replace("9100", str(admin)).split()
    with subprocess.Popen(
        words, cwd=settings.CHECKOUT, env=stack.environment, stdout=subprocess.PIPE, text=True
    ) as server:
        assert f"service http://127.0.0.1:{service}" in server.stdout.readline()
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0


def test_commands_of_the_readme_work(stack):
    require_tool("nc")
    assert COMMANDS[0] == "make lab-up"
    assert all(any(text in command for command in COMMANDS) for text in FOR_A_BUSY_MACHINE)
    outputs = {}
    down_last = sorted(COMMANDS, key=lambda command: command == "make lab-down")
    for command in down_last:
        if command.startswith(THIS_VERY_RUN) or not command:
            continue
        if any(word in command for word in IN_FOREGROUND):
            serve(command, stack)
        else:
            outputs[command] = run(moved(command, stack), stack)
    waits = [float(re.search(r"([\d.]+) s\n", text)[1]) for command, text in outputs.items() if "time_total" in command]
    one_loop, free_worker = waits
    assert one_loop > WAITED_SECONDS > free_worker
    assert "VALUE k 0 2" in next(text for command, text in outputs.items() if command.startswith("printf"))
    assert not stack.processes()


def test_tables_of_the_readme_are_the_option_table():
    from services.options import MODELS

    servers = (settings.CHECKOUT / "services" / "README.md").read_text(encoding="utf-8")
    for model in MODELS.values():
        cells = " | ".join((model.listens, model.accepts, model.reads, model.executes, model.writes))
        assert re.search(rf"\[`{model.name}`\]\(services/models/{model.name}.py\) \| {re.escape(cells)} \|", README)
        assert f"[{model.name}](models/{model.name}.py) | {cells} | {model.term} |" in servers
