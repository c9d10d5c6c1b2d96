"""The local place: what the roles declare becomes the configuration of supervisord, which runs it.

`python -m lab.stack.local < JSON` is the last task of Ansible in `lab up`; JSON is a list of programs as `Program` has
them. No path of the user's is in the configuration but in a command, quoted: supervisord takes all others relative to
the folder that it is started in, so neither a space nor the length of a path matters.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import xmlrpc.client
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from lab import settings
from lab.stack import files, leftovers, parts, supervision

START_SECONDS = 20.0
STATE_FOLDERS = ("logs", "models", "supervisor", "prometheus/targets", "prometheus/rules")

SUPERVISORD = """\
; Written by lab/stack/local.py. Paths are relative to the folder of the state, where supervisord is started.
[supervisord]
identifier={identifier}
logfile=logs/supervisord.log
logfile_maxbytes=1MB
logfile_backups=1
pidfile=supervisor/supervisord.pid
childlogdir=logs

[unix_http_server]
; supervisord makes a path absolute, and a socket's may have 107 bytes.
file=/proc/self/cwd/supervisor/supervisor.sock
chmod=0600

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

; For people: .venv/bin/supervisorctl -c .lab/supervisor/supervisord.conf
[supervisorctl]
serverurl=unix://%(here)s/supervisor.sock
"""

PROGRAM = """
[program:{name}]
command={command}
directory={folder}
autorestart=true
startsecs=1
stopwaitsecs={stop_seconds}
killasgroup=true
redirect_stderr=true
stdout_logfile=logs/{name}.log
stdout_logfile_maxbytes=5MB
stdout_logfile_backups=1
"""


@dataclass(frozen=True, slots=True)
class Program:
    """One program that a role declares, with the text of the files that it reads, by their paths."""

    name: str
    argv: list[str]
    options: dict[str, Any]
    directory: str
    environment: dict[str, Any] = field(default_factory=dict)
    stop_seconds: int = 10
    files: dict[str, str] = field(default_factory=dict)

    def words(self) -> list[str]:
        """The command line. env(1) sets the environment: supervisord's own way takes no quotes in a value."""
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        options = [
            f"--{name}" if value is True else f"--{name}={value}"
            for name, value in self.options.items()
            if value is not False
        ]
        return [*(["env", *variables] if variables else []), *self.argv, *options]

    def folder(self) -> str:
        """Where it runs, as supervisord is told: the checkout, or a folder of the state."""
        if Path(self.directory) == settings.CHECKOUT:
            return "%(ENV_LAB_CHECKOUT)s"
        return str(Path(self.directory).relative_to(parts.STATE_DIR))


def quoted(words: Sequence[str]) -> str:
    """Write a command line as supervisord reads it: as a shell does, but % is doubled, and " #" begins a comment.

    An empty pair of quotes keeps # and ; from following a space. Source: supervisor's options.py (4.3).
    """
    return re.sub(r"(?<=\s)(?=[#;])", "''", shlex.join(words).replace("%", "%%"))


def configuration(programs: Sequence[Program]) -> str:
    """Return the text of supervisord.conf."""
    sections = [
        PROGRAM.format(
            name=program.name,
            command=quoted(program.words()),
            folder=program.folder(),
            stop_seconds=program.stop_seconds,
        )
        for program in programs
    ]
    return SUPERVISORD.format(identifier=identifier()) + "".join(sections)


def identifier() -> str:
    """Name a supervisord by its own settings: one with others must be started anew."""
    settings_of_its_own = f"{SUPERVISORD}{sys.executable}{settings.CHECKOUT}"
    return f"accept-lab-{hashlib.sha1(settings_of_its_own.encode()).hexdigest()[:8]}"


def texts(programs: Sequence[Program]) -> dict[str, str]:
    """Return the text of every file, by its path."""
    found = {path: text for program in programs for path, text in program.files.items()}
    return {
        **found,
        str(parts.SUPERVISOR_CONFIGURATION): configuration(programs),
        str(parts.DECLARED): json.dumps([program.name for program in programs]),
    }


def apply(programs: Sequence[Program]) -> list[str]:
    """Have supervisord run these programs and no others; a line for each thing done.

    Raises OSError or xmlrpc.client.Fault. An interrupted run is completed by the next: supervisord compares what it
    runs with what is written.
    """
    done = leftovers.recover()
    if supervision.answers() and supervision.call("getIdentification") != identifier():
        done += leftovers.end()
    for folder in STATE_FOLDERS:
        (parts.STATE_DIR / folder).mkdir(parents=True, exist_ok=True)
    done += files.write(texts(programs))
    if not supervision.answers():
        start()
        done.append("supervisord: started, with all parts")
    return [*done, *supervision.update(), *supervision.start_stopped()]


def start() -> None:
    """Start supervisord, which goes into the background. Raises OSError."""
    environment = {**os.environ, parts.MARK: str(parts.STATE_DIR), "LAB_CHECKOUT": str(settings.CHECKOUT)}
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", "supervisor/supervisord.conf"]
    started = subprocess.run(
        command, cwd=parts.STATE_DIR, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if started.returncode or not supervision.wait(supervision.answers, START_SECONDS):
        said = (started.stderr or started.stdout).strip().splitlines()
        raise OSError(said[0] if said else "it does not answer")


def main() -> int:
    """Apply what standard input lists, or with --check say what would be written; a line for each thing."""
    known = {each.name for each in fields(Program)}
    listed: list[dict[str, Any]] = json.load(sys.stdin)
    programs = [Program(**{name: value for name, value in entry.items() if name in known}) for entry in listed]
    if "--check" in sys.argv:
        print("\n".join(f"{path}: would be written" for path in files.different(texts(programs))))
        return 0
    try:
        done = apply(programs)
    except (OSError, xmlrpc.client.Fault) as error:
        print(f"supervisord does not work: {error}; its log is {parts.LOG_DIR / 'supervisord.log'}")
        return 1
    print("\n".join(done), end="\n" if done else "")
    return 0


if __name__ == "__main__":
    sys.exit(main())
