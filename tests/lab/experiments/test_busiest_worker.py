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


@pytest.mark.parametrize(("seconds", "looks"), [(0.4, 2), (0.6, 4), (2.4, 10)])
def test_two_others_look_once_in_each_delay(seconds, looks):
    assert busiest_worker.most_looks(seconds) == looks


@pytest.mark.parametrize(
    ("trials", "holds"), [([(2, 10), (0, 10)], True), ([(10, 10)], True), ([(2, 10), (11, 10)], False)]
)
def test_hand_overs_of_the_mutex_are_held_against_looks(trials, holds):
    (check,) = (c for c in busiest_worker.EXPERIMENT.checks if c.name == "mutex-stays-with-its-holder")
    figures = [{busiest_worker.HAND_OVERS: changed, busiest_worker.LOOKS: looks} for changed, looks in trials]
    assert check.judge(results.trials("mutex", *figures)).holds is holds
