"""What a test says to a server's control socket."""

from __future__ import annotations

import json
from pathlib import Path

from lab.stack.control import connect


def say(folder: Path, line: bytes) -> dict:
    with connect(folder) as control:
        control.sendall(line)
        answer = b""
        while data := control.recv(65536):
            answer += data
    return json.loads(answer)


def change(folder: Path, **options: object) -> dict:
    return say(folder, json.dumps({"set": options}).encode() + b"\n")
