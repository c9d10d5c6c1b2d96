"""`lab set`: ask a running model, through its `control.sock`, to go on with other options.

In the local place the socket is in the state folder; in containers it is on the model's own volume, where only
its container reaches it, so the same words are said from in there (lab/stack/inside.py).
"""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from typing import Any

from lab import settings
from lab.stack import containers, inside, parts, status, unix_socket
from services.options import options_of

SOCKET = "control.sock"
ANSWER_SECONDS = 60.0
"""A drain may take as long as the model's `--drain`."""
MAX_ANSWER_BYTES = 1 << 20


class ControlError(Exception):
    """The change was refused, or nobody was there to ask; the text says what to do."""


def change(model: str, settings: Sequence[str]) -> dict[str, Any]:
    """Change `OPTION=VALUE`s of the running `model`; all its options, as they are in force now. Raises ControlError."""
    return ask(model, read_settings(model, settings))


def read_settings(model: str, settings: Sequence[str]) -> dict[str, str]:
    """`["workers=2"]` as `{"workers": "2"}`. Raises ControlError. Whether it makes sense is the model's to say."""
    changes: dict[str, str] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise ControlError(f"{setting!r}: give OPTION=VALUE, for example workers=2")
        changes[name.removeprefix("--")] = value
    if not changes:
        live = ", ".join(option.name for option in options_of(model) if option.live)
        raise ControlError(f"give OPTION=VALUE; while it runs, {model} takes {live}")
    return changes


def ask(model: str, changes: dict[str, str]) -> dict[str, Any]:
    """Send the changes to the model's socket; all options in force. Raises ControlError."""
    line = json.dumps({"set": changes}).encode() + b"\n"
    try:
        if not here(model) and status.place() == containers.PLACE:
            answer = json.loads(inside.say(model, line, ANSWER_SECONDS))
        else:
            answer = json.loads(say_here(model, line))
    except inside.InsideError as error:
        raise ControlError(str(error)) from None
    except (FileNotFoundError, ConnectionError):
        raise ControlError(f"{model} does not run here: `lab up` starts it") from None
    except TimeoutError:
        raise ControlError(f"{model} has not answered for {ANSWER_SECONDS:g} s: see `lab status`") from None
    except ValueError:
        raise ControlError(f"{model} ended before it answered: see `lab status` and its log") from None
    if "error" in answer:
        raise ControlError(f"{model}: {answer['error']}")
    options: dict[str, Any] = answer["options"]
    return options


def here(model: str) -> bool:
    """Return whether we are inside the network ourselves: then the model's own volume is in our state folder."""
    return settings.host_of(model) != settings.HOST


def say_here(model: str, line: bytes) -> bytes:
    """Return the reply of the model's socket in the state folder to the line. Raises OSError."""
    with unix_socket.connect(parts.STATE_DIR / "models" / model / SOCKET, ANSWER_SECONDS) as control:
        control.sendall(line)
        return read_to_end(control)


def read_to_end(control: socket.socket) -> bytes:
    """All that is said until the other side closes."""
    text = b""
    while (data := control.recv(65536)) and len(text) < MAX_ANSWER_BYTES:
        text += data
    return text
