"""All trials of one experiment, made inside the sandbox, and what they showed, one JSON document a line.

`{"progress": 0.5, "doing": "…"}` as it goes on, and `{"arm": …, "repetition": 0, "observation": {…}}` after each trial.

A trial whose durations other programs may have spoilt is made again, if a check rests on these; not for ever, since
some machines are always busy.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from lab.harness.experiment import ArmResult
from lab.harness.observation import OTHERS, Quantity
from lab.harness.trial import Trial, TrialError
from lab.harness.verdict import BUSY_MACHINE, arms_of, is_hindered
from lab.measure.foreign_cpu import ForeignCpu
from lab.sandbox import network

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.harness.experiment import Check, Experiment
    from lab.harness.observation import Arm, Observation

AGAIN, MOST_AGAIN = {True: 1, False: 2}, {True: math.inf, False: 10}
"""Times that one hindered trial is made again in quick form and in full, and how many in one run."""


def make_trials(experiment: Experiment, decisive: Sequence[Check], *, quick: bool) -> None:
    """Make those of every arm, interleaved; and again those that others hindered and the decisive checks rest on."""
    cpus = shared_out(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cpus[1])  # what we do ourselves must not take from the server
    trials = Trials(experiment, [check for check in decisive if check.timed], cpus, quick=quick)
    for repetition in range(trials.repetitions):
        for arm in in_turn(trials.arms, repetition):
            trials.make(repetition, arm)
        trials.make_hindered_again(repetition)


class Trials:
    """The trials of one run; those on which the `timed` checks rest are made again where others hinder them."""

    def __init__(
        self, experiment: Experiment, timed: Sequence[Check], cpus: tuple[set[int], set[int]], *, quick: bool
    ) -> None:
        self._experiment, self._timed, self._cpus, self._quick = experiment, timed, cpus, quick
        self.repetitions = experiment.quick_repetitions if quick else experiment.repetitions
        self.arms = experiment.arms_in(quick=quick)
        self._results = {arm.name: ArmResult(arm, []) for arm in self.arms}
        self._again_left = MOST_AGAIN[quick]

    def make(self, repetition: int, arm: Arm) -> None:
        """Make one and print it."""
        doing = (
            "again, since others had the processors" if self._is_made(repetition, arm) else f"trial {repetition + 1}"
        )
        made = sum(len(result.observations) for result in self._results.values())
        say(progress=made / (self.repetitions * len(self.arms)), doing=f"{arm.name}, {doing}")
        begun = time.monotonic()
        observation = self._observed(repetition, arm)
        self._results[arm.name].add(repetition, observation)
        seconds = round(time.monotonic() - begun, 3)
        say(arm=arm.name, repetition=repetition, observation=asdict(observation), seconds=seconds)

    def make_hindered_again(self, repetition: int) -> None:
        """Make those of the repetition again on whose durations a check rests, while others hinder them."""
        timed = arms_of(self._timed, self._results)
        for _ in range(AGAIN[self._quick]):
            for arm in in_turn(self.arms, repetition):
                hindered = is_hindered(self._results[arm.name].observations[repetition])
                if arm.name in timed and hindered and self._again_left > 0:
                    self._again_left -= 1
                    self.make(repetition, arm)

    def _observed(self, repetition: int, arm: Arm) -> Observation:
        """Observation of a trial. One that could not be made where others had the processors is tried once more."""
        for last in (False, True):
            others = ForeignCpu(self._cpus[0] | self._cpus[1])
            try:
                observation = make_trial(self._experiment, arm, repetition, self._cpus, quick=self._quick)
            except TrialError as error:
                if last or others.share() <= BUSY_MACHINE:
                    raise
                print(f"{arm.name}: {error}; once more, since others had the processors", file=sys.stderr)
                continue
            observation.metrics[OTHERS] = Quantity(others.share())
            return observation
        raise AssertionError("the last attempt returns or raises")

    def _is_made(self, repetition: int, arm: Arm) -> bool:
        return len(self._results[arm.name].observations) > repetition


def in_turn(arms: Sequence[Arm], repetition: int) -> Sequence[Arm]:
    """A B, B A, A B …: a machine that slows down meets every arm alike."""
    return arms if repetition % 2 == 0 else arms[::-1]


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
