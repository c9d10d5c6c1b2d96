"""One trial: one arm, once, in a pair of new namespaces. What an experiment's `trial` function is given."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from lab.harness.observation import AS_SENT, FAILED, GENERATOR_CPU, LITTLES_LAW, Arm, Observation, Quantity
from lab.load import wrk
from lab.load.plan import Plan, Stream, StreamResult, merged
from lab.peers import model
from lab.peers.process import last_words
from lab.settings import CHECKOUT
from lab.top.samples import Sample, Source, take, take_state
from loadtests.histogram import SHARES, Histogram

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lab.peers.process import Peer
    from lab.sandbox.network import Namespace

CONNECT_SECONDS = 5.0
STARTING_SECONDS = 10.0
POLL_SECONDS = 0.02
RESPONSE_BYTES = 4096
"""More than any response to a question of ours, and so one `recv` has all of it."""
REQUEST = b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n"
WORKER = re.compile(rb"\r\nx-worker: *([^\r\n]*)", re.IGNORECASE)
SLACK_SECONDS = 30.0
"""Time beyond its plan that a generator may take, before it is ended."""


class TrialError(Exception):
    """The trial could not be made; the text says what happened."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running model of ours in the server's namespace."""

    peer: Peer
    namespace: Namespace

    @property
    def address(self) -> tuple[str, int]:
        """Address for clients."""
        return self.namespace.address, self.peer.port

    @property
    def source(self) -> Source:
        """Its admin endpoint."""
        return Source(self.peer.name, self.peer.admin_url)

    def look(self) -> Sample:
        """Return what its admin endpoint says now. Raises TrialError when it says nothing."""
        with self.namespace.entered():
            sample = take(self.source)
        if sample.problem:
            raise TrialError(f"the admin endpoint of {self.peer.name}: {sample.problem}; its last words are in the log")
        return sample

    def listeners(self) -> list[dict[str, Any]]:
        """Its listening sockets: `queue`, `limit` and `drops` of each."""
        listeners: list[dict[str, Any]] = self.state()["listeners"]
        return listeners

    def state(self) -> dict[str, Any]:
        """Its `/state`, which costs it less than `look`."""
        with self.namespace.entered():
            return take_state(self.source)

    def requests(self) -> int:
        """Return how many it has served."""
        return sum(worker["requests"] for worker in self.state()["workers"])

    def wait_until_asked(self, more_than: float) -> None:
        """Return when it has served more than so many: then a load has begun. Raises TrialError."""
        deadline = time.monotonic() + STARTING_SECONDS
        while self.requests() <= more_than:
            if time.monotonic() > deadline:
                raise TrialError(
                    f"{STARTING_SECONDS:.0f} s, and {self.peer.name} has not seen the load; the log has its last "
                    "words, and what the generator said"
                )
            time.sleep(POLL_SECONDS)

    def per_worker(self, metric: str) -> dict[str, float]:
        """A metric by worker, `main` left out; other labels are added up."""
        counts: Counter[str] = Counter()
        for labels, value in self.look().series.get(metric, ()):
            if labels.get("worker", "main") != "main":
                counts[labels["worker"]] += value  # type: ignore[assignment]
        return dict(counts)

    def watched(self, into: Observation, interval_seconds: float = 0.05) -> contextlib.AbstractContextManager[None]:
        """Meanwhile note the length of its accept queues as series."""

        def look(now: float) -> None:
            for listener in self.listeners():
                into.series.setdefault(f"accept queue {listener['listener']}", []).append((now, listener["queue"]))

        return looking(look, interval_seconds)


@contextlib.contextmanager
def looking(look: Callable[[float], None], interval_seconds: float) -> Iterator[None]:
    """Meanwhile call `look(seconds since the beginning)` again and again, in a thread of its own."""
    stop, begun = threading.Event(), time.monotonic()

    def watch() -> None:
        while not stop.wait(interval_seconds):
            look(round(time.monotonic() - begun, 4))

    thread = threading.Thread(target=watch, name="watch")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@dataclass(frozen=True, slots=True)
class LoadResult:
    """Measurements of the generator."""

    seconds: float
    cpu: float
    littles_law: float | None
    """Of all streams together; None where nothing was answered. Where requests fail it says nothing: they are in the
    system, but have no response time.
    """
    streams: dict[str, StreamResult]

    @property
    def failed(self) -> int:
        """Requests without a good answer, of all streams: they are one load."""
        return sum(_failed(stream) for stream in self.streams.values())

    def quantities(self, stream: str | None = None) -> dict[str, Quantity]:
        """The usual metrics of one stream, or of the only one; the generator's own two; and all that failed.

        A trial keeps FAILED, GENERATOR_CPU and LITTLES_LAW among its metrics, or nobody can tell that its figures are
        spoilt. LITTLES_LAW goes only where the law cannot apply: where requests are about as long as the load, so that
        many are under way as the counting begins or ends, or where clients are meant to get no answer.
        """
        result = self.streams[stream] if stream else next(iter(self.streams.values()))
        times = Histogram.from_json(result.intended)
        named = {
            "requests": Quantity(result.requests),
            FAILED: Quantity(self.failed),
            "rate": Quantity(result.completed / self.seconds, "1/s"),
            "mean": Quantity(result.mean_seconds * 1000, "ms"),
            "deviation": Quantity(result.deviation_seconds * 1000, "ms"),
            **{name: Quantity(1000 * (times.quantile(share) or 0.0), "ms") for name, share in SHARES.items()},
            "max": Quantity(result.max_seconds * 1000, "ms"),
            GENERATOR_CPU: Quantity(self.cpu),
        }
        return named if self.littles_law is None else {**named, LITTLES_LAW: Quantity(self.littles_law)}

    def latencies(self, name: str, *streams: str) -> dict[str, dict[str, Any]]:
        """The distribution over these streams, or all, as an observation has it. Open ones have two: as it is, and as
        it was sent. The distance is what a generator with coordinated omission does not see.
        """
        results = [self.streams[stream] for stream in streams or self.streams]
        together = {name: merged(result.intended for result in results).to_json()}
        if any(result.open for result in results):
            together[name + AS_SENT] = merged(result.sent for result in results).to_json()
        return together


def _failed(stream: StreamResult) -> int:
    refused = sum(count for status, count in stream.statuses.items() if not status.startswith("2"))
    return sum(stream.errors.values()) + stream.unanswered + stream.dropped + refused


@dataclass(slots=True)
class Load:
    """A generator at work."""

    process: subprocess.Popen[str]
    plan: Plan

    def result(self) -> LoadResult:
        """Wait for its end. Raises TrialError."""
        try:
            output, _ = self.process.communicate(timeout=self.plan.seconds + self.plan.warm_up_seconds + SLACK_SECONDS)
        except subprocess.TimeoutExpired:
            raise TrialError("the load generator did not come to its end; the log has its words, if any") from None
        if self.process.returncode:
            raise TrialError(f"the load generator ended with {self.process.returncode}; its words are in the log")
        document = json.loads(output)
        streams = [StreamResult(**stream) for stream in document.pop("streams")]
        return LoadResult(**document, streams={stream.name: stream for stream in streams})


def ask_on(connection: socket.socket, path: str) -> str:
    """Return the worker that responds on a connection that stays open. Raises OSError, or TrialError."""
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n".encode())
    response = connection.recv(RESPONSE_BYTES)
    found = WORKER.search(response)
    if not found:
        raise TrialError(f"a response without X-Worker: {response[:100]!r}")
    return found[1].decode()


@dataclass(slots=True)
class Trial:
    """Parts of a trial: the two namespaces, the processors of each side, and its arm."""

    arm: Arm
    repetition: int
    quick: bool
    server: Namespace
    client: Namespace
    folder: Path
    """Files in here are gone with the sandbox."""
    server_cpus: set[int] = field(default_factory=set)
    client_cpus: set[int] = field(default_factory=set)

    @property
    def seconds(self) -> float:
        """A usual length of load: short in quick form."""
        return 2.0 if self.quick else 6.0

    def parameter(self, name: str) -> Any:
        """One of the arm's parameters. Raises KeyError."""
        return self.arm.parameters[name]

    @contextlib.contextmanager
    def serving(self, *, all_cpus: bool = False, **options: Any) -> Iterator[Server]:
        """The arm's model with its options (and these), ready, on the server's processors or on all."""
        words = [f"--{name.replace('_', '-')}={value}" for name, value in {**self.arm.options, **options}.items()]
        cpus = self.server_cpus | self.client_cpus if all_cpus else self.server_cpus
        with contextlib.ExitStack() as stack:
            with self.server.entered():  # while it starts: then it lives there, and we look in when we want
                peer = stack.enter_context(model.start(self.arm.model, *words, cpus=cpus, host=self.server.address))
            try:
                yield Server(peer, self.server)
            except Exception:
                # Its log goes with the sandbox; ours is kept.
                print(f"{peer.name}, in its last words:\n{last_words(peer.folder)}", file=sys.stderr)
                raise

    @contextlib.contextmanager
    def loading(
        self,
        server: Server,
        *streams: Stream,
        seconds: float | None = None,
        warm_up_seconds: float = 0.5,
        connect_gap_seconds: float = 0.0,
    ) -> Iterator[Load]:
        """A generator in the client's namespace, on its processors, while something else goes on."""
        self.check(server)
        length = seconds or self.seconds
        plan = Plan(*server.address, streams, length, warm_up_seconds, connect_gap_seconds, seed=self.repetition)
        with self.started(sys.executable, "-m", "lab.load.generator", json.dumps(asdict(plan))) as process:
            yield Load(process, plan)

    def check(self, server: Server) -> None:
        """Before any load: a request is answered, and by the model that is meant. Raises TrialError."""
        with self.connect(server.address) as connection:
            connection.sendall(REQUEST)
            response = connection.recv(RESPONSE_BYTES)
        # A server that an experiment brings along itself says no model.
        meant = not self.arm.model or f"x-model: {self.arm.model}\r".encode() in response.lower()
        if not (meant and response.startswith(b"HTTP/1.1 200 ")):
            raise TrialError(f"{self.arm.model} answers GET / with {response[:100]!r}: no load is made on that")

    def load(
        self, server: Server, *streams: Stream, seconds: float | None = None, warm_up_seconds: float = 0.5
    ) -> LoadResult:
        """The same, to its end."""
        with self.loading(server, *streams, seconds=seconds, warm_up_seconds=warm_up_seconds) as load:
            return load.result()

    @contextlib.contextmanager
    def hammering(
        self, server: Server, seconds: float, *, connections: int = 50, keep_alive: bool = True
    ) -> Iterator[Callable[[], dict[str, Quantity]]]:
        """wrk, as fast as it goes, for rates that a generator in Python cannot make: a function that waits for its
        figures. It raises TrialError.
        """
        self.check(server)
        url, threads = "http://{}:{}/".format(*server.address), min(connections, len(self.client_cpus))

        def finish() -> dict[str, Quantity]:
            load = wrk.finish(process, url, seconds)
            return {
                "rate": Quantity(load.requests_per_second, "1/s"),
                FAILED: Quantity(load.errors),
                GENERATOR_CPU: Quantity(load.cpu / threads),
            }

        try:
            with contextlib.ExitStack() as stack:
                with self.client.entered():  # while it starts; it keeps our processors, which are the client's
                    asking = wrk.started(
                        url, seconds, cpu=None, connections=connections, keep_alive=keep_alive, threads=threads
                    )
                    process = stack.enter_context(asking)
                yield finish
        except wrk.WrkError as error:
            raise TrialError(str(error)) from error

    @contextlib.contextmanager
    def started(
        self, *command: str, cpus: set[int] | None = None, stdin: int = subprocess.DEVNULL
    ) -> Iterator[subprocess.Popen[str]]:
        """A process in the client's namespace, its output a pipe; killed at the end if it still runs."""
        chosen = cpus or self.client_cpus
        with self.client.entered():
            process = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=subprocess.PIPE,
                text=True,
                cwd=CHECKOUT,
                preexec_fn=lambda: os.sched_setaffinity(0, chosen),
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def ask(self, address: tuple[str, int], path: str = "/") -> str:
        """Return the worker that responds on a new connection. Raises OSError."""
        with self.connect(address) as connection:
            return ask_on(connection, path)

    def connect(self, address: tuple[str, int], timeout_seconds: float = CONNECT_SECONDS) -> socket.socket:
        """A connected socket of the client's namespace. Raises OSError."""
        connection = self.client.socket()
        connection.settimeout(timeout_seconds)
        try:
            connection.connect(address)
        except OSError:
            connection.close()
            raise
        return connection
