"""`control.sock`: how the options of a running model are changed.

    lab set ──▶ control.sock ──▶ main: drain the workers, start them with the new options ──▶ what is in force

A Unix socket in main's state folder, for its own user only. It takes one JSON line, `{"set": {option: value}}`,
and responds with one: `{"options": {…}}` once the new options are in force, or `{"error": "…"}`.

It stays while loops end: the change that it takes ends main's present one. Used by main's thread only.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from services.net.acceptor import ACCEPT_PAUSE_SECONDS
from services.net.event_loop import Source
from services.net.server_loop import ServerLoop

NAME = "control.sock"
MAX_LINE_BYTES = 16 * 1024
MAX_CLIENTS = 16
LINE_SECONDS = 5.0
"""A client whose line has not ended by then is refused."""

BUSY = {"error": "the server is draining, for another change or to end: try again"}

Options = dict[str, Any]


class Control(Source):
    """The listening socket, and the change that is under way."""

    def __init__(self, folder: Path, options: Options, change: Callable[[Options, Options], Options]) -> None:
        """`change` makes of the options in force and the changes asked for what will be, or raises ValueError.

        Raises OSError where the folder cannot hold a socket.
        """
        self._in_force = options
        self._make_change = change
        self._folder = folder
        self._clients: set[Client] = set()
        self._asked_by: Client | None = None
        self._wanted: Options | None = None
        self._listener = listen(folder)

    def attend(self, loop: ServerLoop, begin: Callable[[], None]) -> None:
        """Serve clients in this loop from now on; `begin()` is called when one has asked for a change."""
        self._loop = loop
        self._begin = begin
        loop.watch(self._listener.fileno(), self)

    def ready(self, events: int) -> None:  # noqa: ARG002
        """Accept a client. Called by the loop."""
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:  # EMFILE leaves the listener readable, so epoll would spin: stop listening for a moment
            self._loop.pause(self._listener.fileno())
            self._loop.call_later(ACCEPT_PAUSE_SECONDS, self._listen_again)
        else:
            if len(self._clients) == MAX_CLIENTS:
                sock.close()
            else:
                self._clients.add(Client(self, self._loop, sock))

    def _listen_again(self) -> None:
        self._loop.resume(self._listener.fileno(), select.EPOLLIN)

    def take(self, client: Client, line: bytes) -> None:
        """Begin the change that a client's line asks for, or say why not."""
        try:
            wanted = self._make_change(self._in_force, read_changes(line))
        except ValueError as error:
            client.respond({"error": str(error)})
            return
        if self._wanted is not None or self._loop.draining:
            client.respond(BUSY)
            return
        self._wanted, self._asked_by = wanted, client
        for waiting in self._clients - {client}:  # their loop ends
            waiting.respond(BUSY)
        self._begin()

    @property
    def changing(self) -> bool:
        """Return whether a client waits for a change to be in force."""
        return self._asked_by is not None

    def go_back(self, reason: str) -> None:
        """Tell the client that the change cannot be made; the options to start again with are the old ones."""
        if self._asked_by is not None:
            self._asked_by.respond({"error": f"{reason}; the old options stay in force"})
        self._asked_by, self._wanted = None, self._in_force

    def wanted(self) -> Options | None:
        """Return the options to start again with, once the loop has ended; None: it ended for good."""
        return self._wanted

    def settle(self) -> None:
        """Tell the client that asked for the change that it is in force."""
        if self._wanted is not None and self._asked_by is not None:
            self._in_force = self._wanted
            self._asked_by.respond({"options": self._in_force})
        self._asked_by = self._wanted = None

    def close(self) -> None:
        """Take the socket out of the folder."""
        self._listener.close()
        with contextlib.suppress(OSError):  # it is gone, or the disk has become read-only: the next server replaces it
            (self._folder / NAME).unlink()

    def forget(self, client: Client) -> None:
        """Forget a client that is gone."""
        self._clients.discard(client)


class Client(Source):
    """One client: its line, and our response."""

    def __init__(self, control: Control, loop: ServerLoop, sock: socket.socket) -> None:
        self._control = control
        self._loop = loop
        self._socket = sock
        self._line = b""
        self._complete = False
        sock.setblocking(False)
        loop.watch(sock.fileno(), self)
        loop.call_later(LINE_SECONDS, self._time_out)

    def ready(self, events: int) -> None:  # noqa: ARG002
        """Read the line. Called by the loop."""
        try:
            data = self._socket.recv(MAX_LINE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._line += data
        if len(self._line) > MAX_LINE_BYTES:
            self.respond({"error": f"more than {MAX_LINE_BYTES} bytes"})
        elif not data or b"\n" in data:
            self._complete = True
            self._loop.forget(self._socket.fileno())
            self._control.take(self, self._line)

    def respond(self, response: dict[str, Any]) -> None:
        """Send the response, and close."""
        if self._socket.fileno() < 0:
            return
        if not self._complete:
            self._complete = True
            self._loop.forget(self._socket.fileno())
        with contextlib.suppress(OSError):  # the client is gone; what it asked for is done all the same
            self._socket.send(json.dumps(response).encode() + b"\n", socket.MSG_NOSIGNAL)
        self._socket.close()
        self._control.forget(self)

    def _time_out(self) -> None:
        if not self._complete:
            self.respond({"error": f'no line within {LINE_SECONDS:g} s: send {{"set": {{"option": "value"}}}}'})


def read_changes(line: bytes) -> Options:
    """Return the changes that a line asks for. Raises ValueError with what is wrong."""
    try:
        asked = json.loads(line)["set"]
    except (ValueError, KeyError, TypeError, RecursionError):
        asked = None
    if not isinstance(asked, dict) or not asked:
        raise ValueError('one line of JSON is understood: {"set": {"option": "value"}}')
    return asked


def listen(folder: Path) -> socket.socket:
    """Open the socket in `folder`, for this user only; what a dead server left there is replaced."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        # By way of the folder's descriptor, since `sun_path` holds 107 bytes and the folder's path may be longer.
        path = f"/proc/self/fd/{descriptor}/{NAME}"
        Path(path).unlink(missing_ok=True)
        os.fchmod(listener.fileno(), 0o600)  # Linux makes the file with the socket's own mode
        listener.bind(path)
        listener.listen(MAX_CLIENTS)
        listener.setblocking(False)
    finally:
        os.close(descriptor)
    return listener
