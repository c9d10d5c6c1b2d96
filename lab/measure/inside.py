"""Inside the sandbox: makes all trials of one experiment and prints what they showed.

    python -m lab.measure.inside NAME quick|full [CONTROL]

prints one JSON document a line: `{"progress": 0.5, "doing": "…"}` as it goes on, `{"arm": …, "observation": {…}}`
after each trial, `{"error": "…"}` where one could not be made. Whoever started it judges.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from lab import experiments
from lab.measure.experiment import OTHERS, Quantity
from lab.measure.others import Others
from lab.measure.trial import Trial, TrialError
from lab.peers.process import PeerError
from lab.sandbox import network
from lab.sandbox.outside import TEMPORARY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.measure.experiment import Arm, Experiment, Observation

BAD_ENVIRONMENT = 2
MOST_BYTES = 256 * 2**20
"""Of files in a sandbox: they are memory, and a log that runs wild should end the run, not the machine's."""


def main() -> None:
    """Make the trials that the command line names."""
    name, effort, *control = sys.argv[1:]
    experiment = experiments.named(name)
    if control:
        experiment = experiment.without_cause(experiments.control_of(experiment, control[0]))
    try:
        # A tmpfs over a folder of the checkout, in our own mount namespace: no file can be left behind.
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={MOST_BYTES}", "none", str(TEMPORARY)], check=True)
        tempfile.tempdir = str(TEMPORARY)
        make_trials(experiment, quick=effort == "quick")
    # The last two: a connect, or a program, that nobody expected to fail.
    except (TrialError, PeerError, network.NetworkError, OSError, subprocess.SubprocessError) as error:
        say(error=str(error))
        raise SystemExit(BAD_ENVIRONMENT) from error


def make_trials(experiment: Experiment, *, quick: bool) -> None:
    """Every arm, interleaved, as often as its repetitions say."""
    server_cpus, client_cpus = shared_out(os.sched_getaffinity(0))
    os.sched_setaffinity(0, client_cpus)  # what we do ourselves must not take from the server
    order = list(interleaved(experiment, experiment.quick_repetitions if quick else experiment.repetitions))
    for number, (repetition, arm) in enumerate(order):
        say(progress=number / len(order), doing=f"{arm.name}, trial {repetition + 1}")
        begun, others = time.monotonic(), Others(server_cpus | client_cpus)
        observation = make_trial(experiment, arm, repetition, (server_cpus, client_cpus), quick=quick)
        observation.metrics[OTHERS] = Quantity(others.share())
        say(arm=arm.name, observation=asdict(observation), seconds=round(time.monotonic() - begun, 3))


def interleaved(experiment: Experiment, repetitions: int) -> Iterator[tuple[int, Arm]]:
    """A B, B A, A B …: a machine that slows down meets every arm alike."""
    for repetition in range(repetitions):
        arms = experiment.arms if repetition % 2 == 0 else experiment.arms[::-1]
        yield from ((repetition, arm) for arm in arms)


def make_trial(
    experiment: Experiment, arm: Arm, repetition: int, cpus: tuple[set[int], set[int]], *, quick: bool
) -> Observation:
    """One trial in new namespaces; `cpus` are the server's and the client's."""
    with network.pair(arm.sysctls, arm.client_sysctls) as (server, client), tempfile.TemporaryDirectory() as folder:
        trial = Trial(arm, repetition, quick, server, client, Path(folder), *cpus)
        return experiment.trial(trial)


def shared_out(cpus: set[int]) -> tuple[set[int], set[int]]:
    """The server's processors and the client's: a third, rounded up, is the client's."""
    ordered = sorted(cpus)
    if len(ordered) == 1:
        return set(ordered), set(ordered)
    clients = math.ceil(len(ordered) / 3)
    return set(ordered[:-clients]), set(ordered[-clients:])


def say(**document: object) -> None:
    """One line for whoever started us."""
    print(json.dumps(document), flush=True)


if __name__ == "__main__":
    main()
