"""Server processor time a request, under a load that keeps the server's core busy.

wrk sends requests that `requests.lua` prepares before its clock starts, each different from all before, or its own
request again and again. The load lasts a second longer than the measurement, which lies inside it: processor time is
read from the kernel, and requests from the counter that the script keeps in a mapped file, at the same two moments.
Up to 50 requests, one a connection, are on their way at either moment.

A server that waits spends time on waking up that a busy one does not, so a figure counts when the server's processes
had at least 95 % of their core. Otherwise the load is repeated, three times in all, and the busiest is kept and marked.

Memory: a prepared request takes about 400 bytes of wrk's, and at most `MOST_REQUESTS` are prepared: 0.8 GB.
"""

from __future__ import annotations

import mmap
import struct
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from lab.bench.servers import BenchError, roles
from lab.load import wrk
from lab.measure import processes

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from types import TracebackType

    from lab.bench.servers import Cores
    from lab.peers.process import Peer

SCRIPT = Path(__file__).with_name("requests.lua")
BUSY = 0.95
ATTEMPTS = 3
LEAD_SECONDS = 0.7
TAIL_SECONDS = 0.3
"""The load goes on around the measurement, by a whole second together, for wrk takes whole seconds."""
SPARE = 2.0
"""Requests prepared for each that the warm-up would have sent in the time: a virtual machine's speed varies."""
LEAST_REQUESTS = 100_000
MOST_REQUESTS = 2_000_000
PREPARE_SECONDS = 60.0
POLL_SECONDS = 0.01
COUNTERS = struct.Struct("=QQ")


@dataclass(frozen=True, slots=True)
class Load:
    """Figures of one measured load. Shares are seconds of processor time a second."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us_per_request: float
    """Of all processes that serve, user and kernel."""
    admin_cpu_us_per_request: float
    """Of a model's admin process; 0 for other servers."""
    busy_share: float
    """Of the server's core, by the processes that serve."""
    generator_share: float
    """Of wrk's core, by wrk."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Totals at one moment: processor time in seconds, and requests sent."""

    at: float
    serving: float
    admin: float
    generator: float
    requests: int


class Counters:
    """A context manager for the file that `requests.lua` maps: requests sent, and whether all are prepared."""

    def __enter__(self) -> Self:
        """Make the file and map it."""
        self._file = tempfile.NamedTemporaryFile(prefix="lab-requests-")
        self._file.write(bytes(COUNTERS.size))
        self._file.flush()
        self._memory = mmap.mmap(self._file.fileno(), COUNTERS.size)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Remove it."""
        self._memory.close()
        self._file.close()

    @property
    def path(self) -> str:
        """Path of the file."""
        return self._file.name

    @property
    def sent(self) -> int:
        """Requests sent so far; it counts one more, with which wrk tries the script."""
        sent, _ = COUNTERS.unpack_from(self._memory)
        return int(sent)

    def wait(self, process: subprocess.Popen[str]) -> None:
        """Return when the requests are prepared. Raises BenchError when that takes too long."""
        deadline = time.monotonic() + PREPARE_SECONDS
        while not COUNTERS.unpack_from(self._memory)[1]:
            if process.poll() is not None:
                return  # wrk.finish reports why
            if time.monotonic() > deadline:
                raise BenchError(f"wrk did not prepare its requests within {PREPARE_SECONDS:.0f} s: try a shorter load")
            time.sleep(POLL_SECONDS)


class NotEnoughError(BenchError):
    """The server took all prepared requests before the load was over."""


class Supply:
    """Numbers of the requests of one load after another, so that none comes twice, and how many to prepare."""

    def __init__(self, requests_per_second: float, seconds: float) -> None:
        """For loads of `seconds`, of about so many requests a second. Raises BenchError when that is too much."""
        self.first = 0
        self.count = max(LEAST_REQUESTS, round(SPARE * requests_per_second * (seconds + LEAD_SECONDS + TAIL_SECONDS)))
        if self.count > MOST_REQUESTS:
            raise BenchError(
                f"a load of {seconds:.0f} s at {requests_per_second:,.0f} requests a second needs {self.count:,} "
                f"prepared requests, and {MOST_REQUESTS:,} is the most: give fewer --seconds"
            )

    def load(self, running: Peer, seconds: float, cores: Cores) -> Load:
        """One load. Where it needs more requests, the next one has four times as many. Raises BenchError."""
        while True:
            first, count = self.first, self.count
            self.first += count
            try:
                return once(running, seconds, cores, first, count)
            except NotEnoughError:
                if count == MOST_REQUESTS:
                    raise
                self.count = min(4 * count, MOST_REQUESTS)


def distinct(running: Peer, seconds: float, cores: Cores, rate: float, progress: Callable[[str], None]) -> Load:
    """Load of which every request differs; `rate` is about how many a second there will be. Raises BenchError."""
    supply = Supply(rate, seconds)
    return _until_busy(running, lambda: supply.load(running, seconds, cores), progress)


def repeated(running: Peer, seconds: float, cores: Cores, progress: Callable[[str], None]) -> Load:
    """Load of the same request, wrk's own, again and again. Raises BenchError."""
    return _until_busy(running, lambda: once(running, seconds, cores, 0, 0), progress)


def once(running: Peer, seconds: float, cores: Cores, first: int, count: int) -> Load:
    """One load of at most `count` requests numbered from `first`; of the same one where `count` is 0."""
    serving, admin = roles(running)
    length = wrk.whole(seconds)

    def reading() -> Reading:
        return Reading(
            time.monotonic(),
            processes.cpu_seconds(serving),
            processes.cpu_seconds(admin),
            processes.cpu_seconds([process.pid]),
            counters.sent,
        )

    with Counters() as counters:
        script = (str(SCRIPT), counters.path, str(first), str(count))
        with wrk.started(running.url, length + LEAD_SECONDS + TAIL_SECONDS, cpu=cores.load, script=script) as process:
            counters.wait(process)
            time.sleep(LEAD_SECONDS)
            before = reading()
            time.sleep(length)
            after = reading()
            try:
                result = wrk.finish(process, running.url, length)
            except wrk.WrkError:
                if 0 < count <= counters.sent:
                    raise NotEnoughError(f"{count:,} requests prepared were not enough: give fewer --seconds") from None
                raise
    if result.errors or not result.requests:
        raise BenchError(f"{running.name}: {result.errors} of {result.requests} requests failed under load")
    return _figures(before, after, result)


def _figures(before: Reading, after: Reading, result: wrk.WrkResult) -> Load:
    elapsed = after.at - before.at
    requests = after.requests - before.requests
    if requests <= 0:
        raise BenchError("no request was sent while it was measured: the machine stood still; try again")
    return Load(
        requests_per_second=requests / elapsed,
        p50_ms=result.p50_ms,
        p99_ms=result.p99_ms,
        cpu_us_per_request=(after.serving - before.serving) / requests * 1e6,
        admin_cpu_us_per_request=(after.admin - before.admin) / requests * 1e6,
        busy_share=(after.serving - before.serving) / elapsed,
        generator_share=(after.generator - before.generator) / elapsed,
    )


def _until_busy(running: Peer, attempt: Callable[[], Load], progress: Callable[[str], None]) -> Load:
    """The first load with the server's core busy, else the busiest."""
    done: list[Load] = []
    for number in range(ATTEMPTS):
        done.append(attempt())
        if done[-1].busy_share >= BUSY:
            break
        then = "measured again" if number + 1 < ATTEMPTS else "the busiest load counts, and is marked"
        progress(
            f"{running.name} had its core for {done[-1].busy_share:.0%} of the time only, {_cause(done[-1])}: {then}"
        )
    return max(done, key=lambda load: min(load.busy_share, BUSY))


def _cause(load: Load) -> str:
    """Reason why the server's core was not busy, and the remedy."""
    if load.generator_share >= BUSY:
        return "because wrk needed all of its own"
    return f"wrk for {load.generator_share:.0%} of its own (does other work run here? end it)"
