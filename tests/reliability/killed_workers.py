"""Workers killed at random under idempotent load: what was acknowledged is there, and nothing is there twice.

Each operation adds 1 to a counter of its own, so that one that is lost and one that is doubled cannot make up for each
other, and is repeated under the same key until it is acknowledged. Then the server is ended, and the counters are read
from its SQLite file, not from the server.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reliability.figures import Check, Figures
from reliability.serving import serving
from support.servers import Server, end_server, read_response

ROWS = {
    "nginx": (),
    "reuseport": (),
    "memcached": ("--worker-kind", "process"),
    "ramcloud": ("--worker-kind", "process"),
    "nodejs": ("--cluster", "4"),
}
"""Models with worker processes, and the options that make them so. All share one SQLite file then."""
STRATEGIES = ("idempotency-key", "upsert")
CLIENTS = 16
WORKERS = 4
SLOW_SHARE = 0.05
"""Operations that block for a moment between reserving their key and their effect: a kill then leaves a lease."""
SLOW = "?block=2ms"
KILL_PAUSE_SECONDS = (0.02, 0.3)
PAUSE_SECONDS, LEASE_PAUSE_SECONDS = 0.01, 0.1
TRY_SECONDS = 10.0
GIVE_UP_SECONDS = 60.0
STATUS = re.compile(rb"HTTP/1\.1 (\d+)")


@dataclass(frozen=True)
class KilledWorkers(Figures):
    """Figures of one model and strategy. `tries` has their outcomes: an operation may have several."""

    operations: int
    seconds: float
    kills: int
    tries: dict[str, int]
    interrupted: int
    """Operations one of whose tries had no response: the client could not know whether it had counted."""
    unacknowledged: int
    lost: int
    doubled: int

    @property
    def size(self) -> str:
        """Return how many operations, and what happened to them."""
        replayed, waiting = (self.tries.get(name, 0) for name in ("replayed", "409"))
        return (
            f"{self.operations:,} operations in {self.seconds:.0f} s, {self.kills:,} kills; {self.interrupted:,} "
            f"interrupted, {replayed:,} responses replayed, {waiting:,} told to wait"
        )

    def checks(self) -> list[Check]:
        """Return the judgements."""
        return [
            Check("acknowledged and lost", str(self.lost), "0", self.lost == 0),
            Check("applied twice", str(self.doubled), "0", self.doubled == 0),
            Check("never acknowledged", str(self.unacknowledged), "0", self.unacknowledged == 0),
            Check("operations that a kill interrupted", str(self.interrupted), "at least 1", self.interrupted > 0),
        ]


def killed_workers(
    operations: int, rows: tuple[tuple[str, str], ...] | None = None, seed: int = 1
) -> Iterator[KilledWorkers]:
    """Do so many operations in all, shared out over the rows of model and strategy; by default over all."""
    rows = rows or tuple((model, strategy) for strategy in STRATEGIES for model in ROWS)
    for model, strategy in rows:
        yield one_row(model, strategy, operations // len(rows), seed)


def one_row(model: str, strategy: str, operations: int, seed: int) -> KilledWorkers:
    """Return the figures of one model and strategy."""
    began = time.monotonic()
    with serving(model, "--workers", str(WORKERS), "--idempotency", strategy, *ROWS[model]) as server:
        clients = [Client(server.port, seed, number, range(number, operations, CLIENTS)) for number in range(CLIENTS)]
        with killing(server, random.Random(seed)) as kills:
            for client in clients:
                client.start()
            for client in clients:
                client.join()
        seconds = time.monotonic() - began
        end_server(server)
        counted = counters(server.log.parent / "state")
    acknowledged = {number for client in clients for number in client.acknowledged}
    return KilledWorkers(
        f"{model}, {strategy}", operations, seconds, len(kills),
        dict(sum((client.tries for client in clients), Counter())),
        len({number for client in clients for number in client.interrupted}), operations - len(acknowledged),
        sum(counted.get(number, 0) < 1 for number in acknowledged),
        sum(value > 1 for value in counted.values()),
    )  # fmt: skip


class Client(threading.Thread):
    """Does its operations one after the other, each until it is acknowledged, or for GIVE_UP_SECONDS."""

    def __init__(self, port: int, seed: int, number: int, operations: range) -> None:
        super().__init__()
        self._address = ("127.0.0.1", port)
        self._operations = operations
        self._chance = random.Random(f"{seed} {number}")
        self._socket: socket.socket | None = None
        self.tries: Counter[str] = Counter()
        self.acknowledged: list[int] = []
        self.interrupted: list[int] = []

    def run(self) -> None:
        """Do them all."""
        for number in self._operations:
            slow = SLOW if self._chance.random() < SLOW_SHARE else ""
            request = (
                f'POST /counters/{number}{slow} HTTP/1.1\r\nHost: lab\r\nIdempotency-Key: "{number}"\r\n'
                "Content-Length: 0\r\n\r\n"
            )
            if self._repeat(number, request.encode()):
                self.acknowledged.append(number)
        self._hang_up()

    def _repeat(self, number: int, request: bytes) -> bool:
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while time.monotonic() < deadline:
            outcome = self._try(request)
            self.tries[outcome] += 1
            if outcome in {"200", "replayed"}:
                return True
            if outcome == "none":
                self.interrupted.append(number)
            time.sleep(LEASE_PAUSE_SECONDS if outcome == "409" else PAUSE_SECONDS)
        return False

    def _try(self, request: bytes) -> str:
        """Return the status, or `replayed`; `refused` where there was no connection, `none` where no response came."""
        try:
            self._socket = self._socket or socket.create_connection(self._address, TRY_SECONDS)
        except OSError:
            return "refused"
        try:
            self._socket.sendall(request)
            response = read_response(self._socket)
        except OSError:
            response = b""
        status = STATUS.match(response)
        if status is None:
            self._hang_up()
            return "none"
        return "replayed" if b"Idempotent-Replayed" in response else status[1].decode()

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


@contextlib.contextmanager
def killing(server: Server, chance: random.Random) -> Iterator[list[int]]:
    """Meanwhile kill a worker after the other; the list gets their process numbers."""
    killed: list[int] = []
    over = threading.Event()

    def kill() -> None:
        while not over.wait(chance.uniform(*KILL_PAUSE_SECONDS)):
            with contextlib.suppress(OSError):  # it has ended meanwhile, or nobody can be asked
                pid = chance.choice(server.state()["workers"])["pid"]
                if pid not in (0, server.pid):  # it is starting
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def counters(folder: Path) -> dict[int, int]:
    """Return the value of every counter in the server's file."""
    with contextlib.closing(sqlite3.connect(folder / "store.sqlite3")) as connection:
        return {int(name): value for name, value in connection.execute("SELECT name, value FROM counters")}
