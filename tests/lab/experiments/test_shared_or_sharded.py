"""shared-or-sharded burns where there are cores for it, and sleeps where not; its predicted ratio is a simulation's."""

import heapq
import random
from statistics import mean

import pytest

from lab.experiments import shared_or_sharded
from lab.experiments.shared_or_sharded import CLIENTS, CLOSED_RATIO, SERVICE_SECONDS, TOLERANCE, WORKERS
from lab.harness.trial import Trial


@pytest.mark.parametrize(
    ("servers", "clients", "kind"),
    [({0}, {1}, "block"), ({0}, {0}, "block"), (range(4), range(4, 7), "block"), (range(5), range(5, 8), "cpu")],
)
def test_service_burns_from_eight_cores_on(servers, clients, kind, tmp_path):
    (arm, *_) = shared_or_sharded.EXPERIMENT.arms
    trial = Trial(arm, 0, True, None, None, tmp_path, set(servers), set(clients))
    assert shared_or_sharded.service(trial) == kind


def mean_of_sharded(seconds, seed):
    """Mean response of CLIENTS that ask again when served, each time in a queue drawn at random."""
    chance, free_at, times = random.Random(seed), [0.0] * WORKERS, []
    asking = [(chance.random() * SERVICE_SECONDS, client) for client in range(CLIENTS)]
    heapq.heapify(asking)
    while asking[0][0] < seconds:
        now, client = heapq.heappop(asking)
        queue = chance.randrange(WORKERS)
        free_at[queue] = max(now, free_at[queue]) + SERVICE_SECONDS
        times.append(free_at[queue] - now)
        heapq.heappush(asking, (free_at[queue], client))
    return mean(times)


def test_predicted_ratio_is_that_of_a_simulation():
    shared = CLIENTS / WORKERS * SERVICE_SECONDS  # no worker is ever idle
    ratios = sorted(mean_of_sharded(6.0, seed) / shared for seed in range(40))
    assert mean(ratios) == pytest.approx(CLOSED_RATIO, abs=0.01)
    assert ratios[0] > CLOSED_RATIO - TOLERANCE
    assert ratios[-1] < CLOSED_RATIO + TOLERANCE
