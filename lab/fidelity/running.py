"""A running system, model or real: all that signatures may ask and do. They see no other difference between the two."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lab.measure.processes import cpu_seconds, tree, wait_until_asleep
from lab.peers import standstill
from lab.peers.owner import Owner, Owners, thread_of, unread_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from lab.fidelity.system import System
    from lab.peers.process import Peer

RESPONSE_SECONDS = 10.0
QUIET_SECONDS = 0.7
"""So long may nothing come before whoever still waits is taken to wait for what stands still."""
READY_SECONDS, STEADY_SECONDS = 20.0, 0.25
MOMENT_MILLISECONDS = 20
OWNED_SECONDS = 5.0
ASLEEP_SECONDS = 2.0
POLL_SECONDS = 0.01
READ_BYTES = 65536


class FidelityError(Exception):
    """A figure could not be measured; the text says why."""


@dataclass(slots=True)
class Running:
    """A system at work. Everything is called by one thread."""

    system: System
    peer: Peer
    orphans_seconds: float = 0.0
    """Processor time of all processes but the main one, at the end: their parent does not live to be told."""
    _owners: Owners = field(init=False)
    _pids: list[int] = field(default_factory=list)
    _connections: list[socket.socket] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._owners = Owners(self.system.owned_by)

    # Connections.

    def connect(self) -> socket.socket:
        """Return a connection, greeted; closed at the end, or before by whoever has it. Raises OSError."""
        connection = socket.create_connection((self.peer.host, self.peer.port), RESPONSE_SECONDS)
        self._connections.append(connection)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.system.speech.greeting:
            connection.sendall(self.system.speech.greeting)
            self.read(connection)
        return connection

    def connect_at_once(self, number: int) -> list[socket.socket]:
        """Return connections whose handshakes are under way: none waits for the one before."""
        connections = [socket.socket() for _ in range(number)]
        self._connections += connections
        for connection in connections:
            connection.setblocking(False)
            connection.connect_ex((self.peer.host, self.peer.port))
        return connections

    def send(self, connection: socket.socket) -> None:
        """Send a small request. Raises OSError."""
        connection.sendall(self.system.speech.request)

    def read(self, connection: socket.socket) -> bytes:
        """Return one response. Raises OSError, EOFError where the connection ends before it does."""
        data = b""
        while not self.system.speech.is_whole(data):
            piece = connection.recv(READ_BYTES)
            if not piece:
                raise EOFError(f"{self.system.label} closed the connection after {len(data)} bytes")
            data += piece
        return data

    def ask(self, connection: socket.socket) -> bytes:
        """Return the response to a small request. Raises OSError, EOFError."""
        self.send(connection)
        return self.read(connection)

    def hold(self, number: int) -> list[socket.socket]:
        """Return connections, made one after another to workers that wait, each of which had one response."""
        found = []
        for _ in range(number):
            found.append(self.connect())
            self.ask(found[-1])
            self.settle()
        return found

    def wait_until_connected(self, connections: Sequence[socket.socket]) -> None:
        """Return when these handshakes are over, or after some seconds; the connections may be read from then."""
        deadline = time.monotonic() + RESPONSE_SECONDS
        for connection in connections:
            poller = select.poll()
            poller.register(connection, select.POLLOUT)
            poller.poll(max(0.0, deadline - time.monotonic()) * 1000)
            connection.settimeout(RESPONSE_SECONDS)

    def wait_a_moment_for(self, connection: socket.socket) -> None:
        """Return when it has a response, or after a moment: so that connections come in turn, and not in a burst."""
        poller = select.poll()
        poller.register(connection, select.POLLIN)
        poller.poll(MOMENT_MILLISECONDS)

    def silent(self, connections: Collection[socket.socket], seconds: float = QUIET_SECONDS) -> list[socket.socket]:
        """Return those on which nothing comes, neither a response nor an end, until all are quiet for so long."""
        left = {connection.fileno(): connection for connection in connections}
        poller = select.poll()
        for descriptor in left:
            poller.register(descriptor, select.POLLIN)
        while left and (events := poller.poll(seconds * 1000)):
            for descriptor, _ in events:
                poller.unregister(descriptor)
                del left[descriptor]
        return list(left.values())

    def unserved(self, connections: Sequence[socket.socket]) -> int:
        """Count those that get no response: nothing comes, or the connection's end."""
        silent = set(self.silent(connections))
        return sum(connection in silent or not _has_data(connection) for connection in connections)

    def wait_until_read(self, connection: socket.socket) -> None:
        """Return when the server has read what was sent, and waits again; or after a while, where nobody reads."""
        client, deadline = connection.getsockname()[1], time.monotonic() + QUIET_SECONDS
        while unread_bytes(self.peer.port, client) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        self.settle()

    # Workers.

    def wait_until_ready(self) -> None:
        """Return when it responds, and its processes are all there: none comes or works for a while.

        A server may take connections long before its last worker is there. Raises FidelityError.
        """
        deadline = time.monotonic() + READY_SECONDS
        while not self._responds():
            if time.monotonic() > deadline:
                raise FidelityError(f"{self.system.label} responds to nothing for {READY_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)
        before, since = self.pids(), time.monotonic()
        while time.monotonic() - since < STEADY_SECONDS and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            if self.pids() != before or not wait_until_asleep(self._pids, 0.0):
                before, since = self._pids, time.monotonic()

    def warm_up(self) -> None:
        """Make the connections that the system wants made before anything is measured."""
        for connection in self.hold(self.system.warm_up):
            connection.close()
        self.settle()

    def _responds(self) -> bool:
        try:
            with self.connect() as connection:
                self.send(connection)
                return bool(connection.recv(1))
        except (OSError, EOFError):
            return False

    def pids(self) -> list[int]:
        """Return the server's processes, its main one first; empty when it is gone."""
        try:
            self._pids = tree(self.peer.pid)
        except ProcessLookupError:
            self._pids = []
        return self._pids

    def settle(self) -> None:
        """Return when every thread of the server waits for something, or does not stop to work."""
        wait_until_asleep(self._pids or self.pids(), ASLEEP_SECONDS)

    def owners(self, connections: Sequence[socket.socket]) -> list[Owner]:
        """Return the worker that owns each. Raises FidelityError where one has none for some seconds."""
        ports = [connection.getsockname()[1] for connection in connections]
        deadline = time.monotonic() + OWNED_SECONDS
        while True:
            found = self._owners.find(self.peer.port, self._pids or self.pids())
            if all(port in found for port in ports):
                return [found[port] for port in ports]
            if time.monotonic() > deadline:
                missing = sum(port not in found for port in ports)
                raise FidelityError(f"{missing} of {len(ports)} connections of {self.system.label} have no one owner")
            self.look_anew()
            time.sleep(POLL_SECONDS)

    def look_anew(self) -> None:
        """Workers have come or gone: list them again."""
        self._owners.forget()
        self.pids()

    @contextlib.contextmanager
    def stopped(self, worker: Owner) -> Iterator[None]:
        """The worker stands still meanwhile: its process, or only its thread where neighbours share the process."""
        tid = thread_of(worker) if worker.epoll else worker.pid
        if tid is None:
            raise FidelityError(f"no thread of {self.system.label} waits on epoll {worker.epoll}")
        alone = tid == worker.pid
        with standstill.stopped([worker.pid]) if alone else standstill.stopped_thread(tid):
            yield

    @contextlib.contextmanager
    def all_stopped(self) -> Iterator[None]:
        """Every process of the server stands still meanwhile: only the kernel goes on."""
        with standstill.stopped(self.pids()):
            yield

    def kill(self, worker: Owner) -> None:
        """End its process at once: SIGKILL."""
        os.kill(worker.pid, signal.SIGKILL)

    def switches(self) -> dict[int, int]:
        """Return thread → how often it went to sleep by itself, of all threads of the server."""
        found = {}
        for pid in self._pids or self.pids():
            for task in Path(f"/proc/{pid}/task").iterdir():
                text = (task / "status").read_text(encoding="ascii")
                found[int(task.name)] = int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
        return found

    # The whole.

    def reload(self) -> Callable[[], None]:
        """Have new workers take over while it serves; return a function that waits for the end, where it is told.

        Raises FidelityError for a system that cannot.
        """
        if self.system.reload is None:
            raise FidelityError(f"{self.system.label} cannot reload")
        return self.system.reload(self.peer)

    def end(self) -> None:
        """Ask it to finish what is begun, and to end."""
        os.kill(self.peer.pid, self.system.graceful)

    def close(self) -> None:
        """Close every connection that was made."""
        for connection in self._connections:
            connection.close()


def _has_data(connection: socket.socket) -> bool:
    try:
        return bool(connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except OSError:
        return False


@contextlib.contextmanager
def started(system: System) -> Iterator[Running]:
    """Start a system; end it, without patience, when all is measured. Raises PeerError."""
    with system.start() as peer:
        running = Running(system, peer)
        system.prepare(peer)
        try:
            running.wait_until_ready()
            running.warm_up()
            yield running
        finally:
            running.close()
            running.orphans_seconds = cpu_seconds(running.pids()[1:])
            for pid in running.pids()[: 1 if system.last_signal != signal.SIGKILL else None]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, system.last_signal)
