"""shared-or-sharded burns where there are cores for it, and sleeps where not."""

import pytest

from lab.experiments import shared_or_sharded
from lab.harness.trial import Trial


@pytest.mark.parametrize(
    ("servers", "clients", "kind"),
    [({0}, {1}, "block"), ({0}, {0}, "block"), (range(4), range(4, 7), "block"), (range(5), range(5, 8), "cpu")],
)
def test_service_burns_from_eight_cores_on(servers, clients, kind, tmp_path):
    (arm, *_) = shared_or_sharded.EXPERIMENT.arms
    trial = Trial(arm, 0, True, None, None, tmp_path, set(servers), set(clients))
    assert shared_or_sharded.service(trial) == kind
