"""All trials of one experiment, made inside the sandbox, and what they showed, one JSON document a line.

`{"progress": 0.5, "doing": "…"}` as it goes on, and `{"arm": …, "observation": {…}}` after each trial.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from lab.harness.observation import OTHERS, Quantity
from lab.harness.trial import Trial
from lab.measure.foreign_cpu import Others
from lab.sandbox import network

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.harness.experiment import Experiment
    from lab.harness.observation import Arm, Observation


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
