"""The order of the trials, and who gets which processor."""

from dataclasses import replace

import pytest

from lab.experiments import all_experiments
from lab.harness.experiment import Control
from lab.harness.observation import Arm
from lab.harness.trials import interleaved, shared_out

CHECKS = tuple(check.name for check in all_experiments()[0].checks)


def test_every_second_round_goes_backwards():
    arms = (Arm("a"), Arm("b"), Arm("c"))
    experiment = replace(all_experiments()[0], arms=arms, controls=(Control("c", "", (), CHECKS),))
    names = [(repetition, arm.name) for repetition, arm in interleaved(experiment, 2)]
    assert names == [(0, "a"), (0, "b"), (0, "c"), (1, "c"), (1, "b"), (1, "a")]


@pytest.mark.parametrize(
    ("cpus", "server", "client"),
    [
        ({0}, {0}, {0}),
        ({0, 1}, {0}, {1}),
        ({4, 2, 0, 6}, {0, 2}, {4, 6}),
        (set(range(8)), set(range(5)), {5, 6, 7}),
    ],
)
def test_server_and_client_share_no_processor_where_there_are_two(cpus, server, client):
    assert shared_out(cpus) == (server, client)
