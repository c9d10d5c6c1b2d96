"""Commands to a model inside its container: its `control.sock` is there, and so are the pids that its /state gives.

As `docker exec` does it, the engine starts a short program in the container, as the container's own user.
"""

from __future__ import annotations

from signal import Signals
from typing import TYPE_CHECKING, cast

from lab.stack import containers, engine

if TYPE_CHECKING:
    from docker.models.containers import Container

SPARE_SECONDS = 10.0
"""For the engine, beyond what the program itself may take."""
FAILED, TIMED_OUT, UNREACHABLE = 1, 3, 4
"""Exit codes of the programs below; the first is Python's own, after an exception."""

SAY = f"""
import socket, sys
control = socket.socket(socket.AF_UNIX)
control.settimeout(float(sys.argv[2]))
try:
    control.connect("/state/control.sock")
    control.sendall(sys.argv[1].encode())
    while data := control.recv(65536):
        sys.stdout.buffer.write(data)
except TimeoutError:
    sys.exit({TIMED_OUT})
except OSError:
    sys.exit({UNREACHABLE})
"""
SIGNAL = """
import os, sys
for pid in sys.argv[2:]:
    os.kill(int(pid), int(sys.argv[1]))
"""


class InsideError(Exception):
    """The model has no running container, or the engine cannot start anything in it. The text is one line."""


def say(model: str, line: bytes, seconds: float) -> bytes:
    """Return the reply of the model's control socket to the line.

    Raises InsideError, ConnectionRefusedError if nobody listens there, or TimeoutError.
    """
    code, answer = run(model, SAY, line.decode(), str(seconds), seconds=seconds)
    if code == TIMED_OUT:
        raise TimeoutError
    if code == UNREACHABLE:
        raise ConnectionRefusedError
    return answer


def send_signal(model: str, number: Signals, pids: list[int]) -> None:
    """Signal processes by the pids that they have in there. Raises InsideError, or ProcessLookupError."""
    # A container ends with its main process, and may take along the program that has just killed that.
    if run(model, SIGNAL, str(int(number)), *map(str, pids))[0] == FAILED:
        raise ProcessLookupError


def run(model: str, program: str, *arguments: str, seconds: float = 0) -> tuple[int | None, bytes]:
    """Run a Python program in the model's container: how it ended, and what it printed. Raises InsideError."""
    from docker.errors import DockerException

    command = ["python", "-ISc", program, *arguments]
    try:
        code, output = container_of(model, SPARE_SECONDS + seconds).exec_run(command, stderr=False)
    except (engine.EngineError, DockerException, OSError) as error:
        raise InsideError(f"the Docker engine starts nothing in {model}'s container: {error}") from None
    return code, cast("bytes", output)


def container_of(model: str, seconds: float) -> Container:
    """The model's running container. Raises InsideError, EngineError, or DockerException."""
    for container in containers.containers(seconds).get(model, []):
        if container.status == "running":
            return container
    raise InsideError(f"{model} does not run here: `lab up` starts it")
