"""A snapshot: what its trials come to."""

import pytest
from support.results import arms

from lab.experiments import copy_on_write


def snapshot(same, changed, meanwhile):
    return {copy_on_write.OF_THE_FORK: same, copy_on_write.CHANGED: changed, copy_on_write.MEANWHILE: meanwhile}


@pytest.mark.parametrize(
    ("trials", "holds"),
    [
        pytest.param([snapshot(1, 1, 900)], True, id="of the fork"),
        pytest.param([snapshot(0, 1, 900)], False, id="of a later moment"),
        pytest.param([snapshot(1, 0, 900)], False, id="nothing has changed"),
        pytest.param([snapshot(1, 1, 0)], None, id="nobody wrote while it read"),
        pytest.param([snapshot(1, 1, 900), snapshot(0, 1, 900)], False, id="one trial of a later moment"),
        pytest.param([snapshot(1, 1, 900), snapshot(1, 1, 0)], None, id="nobody wrote in one trial"),
    ],
)
def test_snapshot_is_of_the_fork(trials, holds):
    assert copy_on_write.of_the_fork(arms(**{copy_on_write.LARGE: trials})).holds is holds
