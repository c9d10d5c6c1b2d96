"""wrk, the closed-loop HTTP load generator: run it, and read what it prints."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import subprocess
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HOW_TO_GET = "apt-get install wrk"
GRACE_SECONDS = 15.0
TIMEOUT_SECONDS = 2
"""A response that takes longer is an error; wrk's own default."""
UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


class WrkError(Exception):
    """wrk is missing, failed, or printed something else than figures."""


@dataclass(frozen=True, slots=True)
class WrkResult:
    """Figures of one run. `errors` are socket errors and statuses other than 2xx and 3xx."""

    requests: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    errors: int
    cpu: float = 0.0
    """wrk's own processor time, in seconds a second."""


def require() -> str:
    """wrk's path. Raises WrkError, with the way to get it, when it is missing."""
    path = shutil.which("wrk")
    if path is None:
        raise WrkError(f"wrk is needed for load and is not installed: {HOW_TO_GET}")
    return path


def version() -> str:
    """Its version. Raises WrkError when it is missing."""
    # wrk -v prints its usage, too, and ends with 1.
    done = subprocess.run([require(), "-v"], check=False, capture_output=True, text=True, timeout=GRACE_SECONDS)
    match = re.match(r"wrk (?:debian/)?(\S+)", done.stdout + done.stderr)
    return match[1] if match else "unknown"


def run(url: str, seconds: float, *, cpu: int | None, connections: int = 50, keep_alive: bool = True) -> WrkResult:
    """One run with a single thread, on processor `cpu` if given; wrk takes whole seconds, at least one."""
    with started(url, seconds, cpu=cpu, connections=connections, keep_alive=keep_alive) as process:
        return finish(process, url, seconds)


@contextlib.contextmanager
def started(
    url: str,
    seconds: float,
    *,
    cpu: int | None,
    connections: int = 50,
    keep_alive: bool = True,
    threads: int = 1,
    timeout_seconds: int = TIMEOUT_SECONDS,
    script: Sequence[str] = (),
) -> Iterator[subprocess.Popen[str]]:
    """wrk's process, as `run` has it; what of it still runs at the end, or is stopped, is killed.

    `script` is the path of a Lua script and its arguments.
    """
    command = [require(), f"-t{threads}", f"-c{connections}", f"-d{whole(seconds)}s", "--latency"]
    command += ["--timeout", f"{timeout_seconds}s"]
    if not keep_alive:
        command += ["-H", "Connection: close"]
    # A stopped process would wait for ever if this one ended before it, so it is to be killed then.
    command = ["setpriv", "--pdeathsig", "KILL", *command]
    command += ["--script", script[0], url, "--", *script[1:]] if script else [url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            if cpu is not None:
                os.sched_setaffinity(process.pid, {cpu})
            yield process
        finally:
            process.kill()


def finish(process: subprocess.Popen[str], url: str, seconds: float) -> WrkResult:
    """Wait for its figures. Raises WrkError when it failed."""
    before = _cpu_of_the_ended()
    output, _ = process.communicate(timeout=seconds + GRACE_SECONDS)
    if process.returncode:
        raise WrkError(f"wrk failed on {url}: {output.strip()}")
    return replace(parse(output), cpu=(_cpu_of_the_ended() - before) / whole(seconds))


def whole(seconds: float) -> int:
    """As long as wrk runs: whole seconds, at least one."""
    return max(1, round(seconds))


def parse(output: str) -> WrkResult:
    """Read wrk's text. Raises WrkError when a figure is missing."""
    return WrkResult(
        requests=int(_find(r"(\d+) requests in", output)[1]),
        requests_per_second=float(_find(r"Requests/sec:\s+([\d.]+)", output)[1]),
        p50_ms=_milliseconds(_find(r"50%\s+([\d.]+)(us|ms|s|m)", output)),
        p99_ms=_milliseconds(_find(r"99%\s+([\d.]+)(us|ms|s|m)", output)),
        errors=_errors(output),
    )


def _cpu_of_the_ended() -> float:
    # Of children that were waited for: what one adds is all of its own, and nothing of those that still run.
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _errors(output: str) -> int:
    socket_errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    bad_statuses = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    found = [*(socket_errors.groups() if socket_errors else ()), *(bad_statuses.groups() if bad_statuses else ())]
    return sum(map(int, found))


def _find(pattern: str, output: str) -> re.Match[str]:
    match = re.search(pattern, output)
    if match is None:
        raise WrkError(f"wrk's output has no {pattern!r}: {output.strip()}")
    return match


def _milliseconds(match: re.Match[str]) -> float:
    return float(match[1]) * UNITS_MS[match[2]]
