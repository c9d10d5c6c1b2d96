"""What a test says to a server's control socket."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from lab.stack import control, unix_socket


def connect(folder: Path) -> socket.socket:
    """A connection to the control socket in a state folder."""
    return unix_socket.connect(folder / control.SOCKET, control.ANSWER_SECONDS)


def say(folder: Path, line: bytes) -> dict:
    with connect(folder) as connection:
        connection.sendall(line)
        answer = b""
        while data := connection.recv(65536):
            answer += data
    return json.loads(answer)


def change(folder: Path, **options: object) -> dict:
    return say(folder, json.dumps({"set": options}).encode() + b"\n")
