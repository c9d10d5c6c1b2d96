"""The sandbox's side of kills.py: starts commands, kills them, and looks at what is left.

`python -m reliability.kills_inside JSON` prints a line of JSON for each trial.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reliability.machine import census, left
from support.stack import outer_environment

from lab.settings import CHECKOUT

ROOMS = (Path("/tmp"), Path("/run"), Path("/dev/shm"))
"""Folders that begin empty, and where nothing may be in the end."""
HOME, RUNTIME, STATE = Path("/tmp/home"), Path("/run/user"), Path("/tmp/state")
"""The state folder is mounted, so that what is looked for outside it does not lie in it."""
NEEDED = (CHECKOUT, Path(sys.prefix), Path(sys.base_prefix))
MODEL = "nginx"
LONGEST = {"up": 12.0, "down": 2.0, "run": 6.0, "load": 5.0, "set": 1.0}
"""Seconds within which the first kill comes; less where the command turns out to be quicker."""
COMMANDS = {
    "up": ("up", "--place", "local"),
    "down": ("down",),
    "run": ("run", "stalled-worker", "--quick"),
    "load": ("load", MODEL, "--users", "5", "--rate", "5", "--seconds", "3"),
}
COMMAND_SECONDS = 300.0
QUIET_SECONDS = 10.0
"""Time for the kernel, and for what has been told to end, such as a generator of load."""
DRAIN_SECONDS = 15.0
LINE = 200
TRIES = 3
"""To kill a command that is too quick."""
AGAIN_SECONDS = 0.5


class Campaign:
    """All trials, one after the other."""

    def __init__(self, chance: random.Random, ends: float) -> None:
        self.chance = chance
        self.ends = ends
        self.longest = dict(LONGEST)
        for folder in (*ROOMS, STATE):
            make_empty(folder)
        for folder in (HOME, RUNTIME):
            folder.mkdir(parents=True)
        self.environment = {
            **outer_environment(),
            "HOME": str(HOME),
            "XDG_RUNTIME_DIR": str(RUNTIME),
            "LAB_STATE_DIR": str(STATE),
        }
        self.environment.pop("TMPDIR", None)
        self.number = 0

    def stack(self, ups: int, downs: int) -> Iterator[dict[str, Any]]:
        """Kill `lab up`, in every second trial bring it up after all, kill `lab down`, and then end all."""
        before = census(ROOMS)
        for number in range(max(ups, downs)):
            if time.monotonic() > self.ends:
                return
            failures: list[str] = []
            killed = {"up": self.kill("up")} if number < ups else {}
            if number % 2 == 0:
                failures += self.succeed("up")
            if number < downs:
                self.wait_for_ansible()
                killed["down"] = self.kill("down")
            failures += self.succeed("down")
            more = left(before, ROOMS, QUIET_SECONDS)
            for command, moment in killed.items():
                yield result(command, moment, more, failures)

    def one_server(self, command: str, times: int) -> Iterator[dict[str, Any]]:
        """Kill a command that needs one server at most, and see that this is as before."""
        with self.serving():
            before = census(ROOMS)
            for _ in range(times):
                if time.monotonic() > self.ends:
                    return
                moment = self.kill(command)
                failures = self.works()
                yield result(command, moment, left(before, ROOMS, QUIET_SECONDS), failures)

    def kill(self, command: str) -> float | None:
        """Start the command and kill it; again where it had ended by then. Return the moment, in seconds, or None."""
        moments = (self.try_to_kill(command) for _ in range(TRIES))
        return next((moment for moment in moments if moment is not None), None)

    def try_to_kill(self, command: str) -> float | None:
        """Start the command and kill it at a random moment, alone or with all that it has started.

        Return the moment, in seconds; None where it had ended by then.
        """
        moment = self.chance.uniform(0, self.longest[command])
        began = time.monotonic()
        process = self.start(self.words(command))
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            if self.chance.random() < 0.5:
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return moment
        self.longest[command] = max(0.1, time.monotonic() - began)
        return None

    def words(self, command: str) -> tuple[str, ...]:
        """Return the command's words. Each `lab set` asks for something else than the last."""
        self.number += 1
        return COMMANDS.get(command) or ("set", MODEL, f"backlog={100 + self.number % 100}")

    def start(self, words: tuple[str, ...]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "lab", *words], cwd=CHECKOUT, env=self.environment, stdin=subprocess.DEVNULL,
            stdout=sys.stderr, stderr=sys.stderr, start_new_session=True,
        )  # fmt: skip

    def succeed(self, command: str) -> list[str]:
        """Have the command succeed, if need be when an Ansible that lost its `lab` has ended; say if it does not."""
        self.wait_for_ansible()
        code = self.start(self.words(command)).wait(COMMAND_SECONDS)
        return [f"lab {command} ended with {code}: {last_line()}"] if code else []

    def wait_for_ansible(self) -> None:
        """Wait until nobody holds the stack's lock, the state folder's, any more."""
        folder = os.open(STATE, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(folder, fcntl.LOCK_EX)
        os.close(folder)

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Have one server where the stack would have it."""
        words = ["serve", MODEL, "--port", "8004", "--admin-port", "9104", "--state-dir", str(STATE / "models" / MODEL)]
        server = self.start(tuple(words))
        try:
            assert not self.works(DRAIN_SECONDS), "the server does not serve"
            yield
        finally:
            server.terminate()
            server.wait(DRAIN_SECONDS)

    def works(self, seconds: float = DRAIN_SECONDS) -> list[str]:
        """Say if `lab set` does not work; one that was under way may have its drain to the end."""
        deadline = time.monotonic() + seconds
        while code := self.start(self.words("set")).wait(COMMAND_SECONDS):
            if time.monotonic() > deadline:
                return [f"lab set ended with {code}: {last_line()}"]
            time.sleep(AGAIN_SECONDS)
        return []


def make_empty(folder: Path) -> None:
    """Mount an empty folder there that only the sandbox sees; but what we need ourselves stays where it is."""
    folder.mkdir(exist_ok=True)
    kept = {path: os.open(path, os.O_PATH) for path in NEEDED if path.is_relative_to(folder)}
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True)
    for path, descriptor in kept.items():
        path.mkdir(parents=True, exist_ok=True)
        # Without -c it would look for the folder by its name, which is the empty one by now.
        subprocess.run(["mount", "-c", "--rbind", f"/proc/{os.getpid()}/fd/{descriptor}", path], check=True)


def last_line() -> str:
    """Return the end of what the commands have said, which goes into our own standard error, a file."""
    said = Path("/proc/self/fd/2").read_text(encoding="utf-8", errors="replace").strip()
    return said.rpartition("\n")[2][:LINE]


def result(command: str, moment: float | None, more: list[str], failures: list[str]) -> dict[str, Any]:
    """Return one trial's figures."""
    return {
        "command": command, "missed": moment is None, "seconds": moment or 0.0, "left": more, "failures": failures,
    }  # fmt: skip


def main() -> None:
    """Make the trials that were asked for."""
    asked = json.loads(sys.argv[1])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    os.chdir(CHECKOUT)
    campaign = Campaign(random.Random(asked["seed"]), time.monotonic() + asked["seconds"])
    sizes = asked["sizes"]
    if sizes.get("up") or sizes.get("down"):
        report(campaign.stack(sizes.get("up", 0), sizes.get("down", 0)))
    for command in ("run", "load", "set"):
        if sizes.get(command):
            report(campaign.one_server(command, sizes[command]))


def report(results: Iterator[dict[str, Any]]) -> None:
    """Print each trial as soon as it is over."""
    for one in results:
        print(json.dumps(one), flush=True)


if __name__ == "__main__":
    main()
