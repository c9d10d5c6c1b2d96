"""busiest-worker's own judge."""

import pytest
from support import results

from lab.experiments import busiest_worker


@pytest.mark.parametrize(
    ("trials", "holds"),
    [
        ([(33.3, 33.3), (34.0, 33.0)], True),
        ([(35.3, 31.4)], True),
        ([(33.3, 33.3), (35.4, 33.0)], False),
        ([(33.3, 33.3), (34.0, 31.3)], False),
    ],
)
def test_each_a_third_is_held_against_every_trial(trials, holds):
    figures = [{"busiest": busiest, "idlest": idlest} for busiest, idlest in trials]
    assert busiest_worker.each_a_third(results.trials("blocking", *figures)).holds is holds
