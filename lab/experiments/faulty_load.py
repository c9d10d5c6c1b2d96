"""Load of users that repeat their POST, through an injector that loses responses and sends requests twice."""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lab.harness.trial import TrialError
from lab.load.fault_proxy import Plan
from lab.load.locust import locust_command
from lab.load.result import busiest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.harness.trial import Server, Trial

QUICK_SECONDS, SECONDS = 1, 3
MOST_SECONDS = 30
QUICK_REQUESTS, REQUESTS = 300, 2000
"""The load ends after these seconds, or when there were so many: some 30 faults of each kind, or 200. Where others take
the processor, a load that ends by the clock alone may end before anything was cut.
"""
POLL_SECONDS = 0.1
LOCUST_SECONDS, INJECTOR_SECONDS = 60.0, 10.0
NEXT = "is the machine overloaded? Run it again"


def make(trial: Trial, server: Server, share: float, users: int, effect: str) -> tuple[dict[str, Any], float]:
    """Return what the injector has seen (`lab.load.fault_proxy`), and Locust's share of its core.

    `share` of the requests meet each kind of fault, and `effect` is the time that one takes, such as "5ms". Failures
    are what the injector counts, and Locust's own are of no interest.
    """
    with injecting(trial, server, share) as (port, finish):
        busy = locust(trial, server, f"http://{trial.client.address}:{port}", users, effect)
        return finish(), busy


@contextlib.contextmanager
def injecting(trial: Trial, server: Server, share: float) -> Iterator[tuple[int, Any]]:
    """The injector in front of the server: its port, and a function that ends it and returns what it has seen."""
    plan = Plan(*server.address, trial.client.address, share, share, seed=trial.repetition)
    command = [sys.executable, "-m", "lab.load.fault_proxy", json.dumps(asdict(plan))]
    with trial.started(*command, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        if not select.select([process.stdout], [], [], INJECTOR_SECONDS)[0]:
            raise TrialError(f"the injector did not listen within {INJECTOR_SECONDS:.0f} s: {NEXT}")
        port = process.stdout.readline()
        if not port:
            raise TrialError(f"the injector ended before it listened; its words are in the log: {NEXT}")
        yield int(port), lambda: json.loads(words_of(process, "the injector", INJECTOR_SECONDS))


def words_of(process: subprocess.Popen[str], who: str, seconds: float) -> str:
    """Return its output to the end. Raises TrialError where that does not come."""
    try:
        return process.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        raise TrialError(f"{who} did not come to its end within {seconds:.0f} s: {NEXT}") from None


def locust(trial: Trial, server: Server, url: str, users: int, effect: str) -> float:
    """Load by users that repeat a POST until it has a response; Locust's share of its core."""
    result = trial.folder / "locust.json"
    extra = ["--host", url, "--think", "0", "--effect", effect, "--fresh-counters"]
    command = locust_command(trial.arm.model, users, users, MOST_SECONDS, "counters", extra, result)
    with trial.started(*command) as process:
        wait_for_requests(trial, server, process)
        process.terminate()
        words_of(process, "Locust", LOCUST_SECONDS)
    if not result.exists():
        raise TrialError(f"Locust ended with {process.returncode} and no result; its words are in the log: {NEXT}")
    return busiest(json.loads(result.read_text(encoding="utf-8")))


def wait_for_requests(trial: Trial, server: Server, process: subprocess.Popen[str]) -> None:
    """Return when the load has been long and large enough, or has ended by itself."""
    seconds, requests = (QUICK_SECONDS, QUICK_REQUESTS) if trial.quick else (SECONDS, REQUESTS)
    before = server.requests()
    while server.requests() == before and process.poll() is None:
        time.sleep(POLL_SECONDS)
    end = time.monotonic() + seconds
    while (time.monotonic() < end or server.requests() < before + requests) and process.poll() is None:
        time.sleep(POLL_SECONDS)
